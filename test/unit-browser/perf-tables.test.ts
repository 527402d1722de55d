/** Tables of `npm run perf` at their smallest, over a model of random weights: none breaks without a word. */
import { beforeAll, expect, test } from 'vitest';
import { createBench } from '../../tools/perf/bench';
import { getChecks } from '../../tools/perf/checks';
import type { Measurement } from '../../tools/perf/measurement';
import { ladderPrompts } from '../../tools/perf/prompts';
import type { BenchModel } from '../../tools/perf/protocol';
import { writeRandomModel } from '../../tools/perf/random-model';
import type { RandomShape } from '../../tools/perf/random-shapes';
import type { ResultRow, TableName } from '../../tools/perf/results';
import { tableMeasures } from '../../tools/perf/tables';
import { sharedGpu } from '../engine/shared-gpu';

const tiny: RandomShape = {
  name: 'tiny',
  architecture: 'qwen3moe',
  layers: 2,
  hiddenSize: 64,
  heads: 4,
  kvHeads: 2,
  headDim: 32,
  // A quarter of them is enough for a token.
  experts: 8,
  expertsPerToken: 2,
  expertWidth: 32,
  vocabSize: 320,
  ropeTheta: 10_000,
};

const bench = createBench({
  gpu: sharedGpu,
  source: { kind: 'file', file: writeRandomModel(tiny), name: 'tiny.gguf' },
  forecast: {},
});
let model: BenchModel;

beforeAll(async () => {
  model = await bench.install('indexeddb');
});

/** Rows by name, with their values by metric. */
async function measure(table: TableName, shapes: readonly RandomShape[] = []): Promise<ResultRow[]> {
  const measurement: Measurement = {
    bench,
    model,
    store: 'indexeddb',
    runs: 1,
    tokens: 2,
    prompts: ladderPrompts.map(({ text }, seed) => ({ text, seed })),
    shapes,
    peers: null,
    report: () => {},
  };
  const rows = await tableMeasures[table](measurement);
  expect(rows.length).toBeGreaterThan(0);
  for (const { row, metric, median, runs } of rows) {
    expect(median, `${table}, ${row}: ${metric}`).toSatisfy(Number.isFinite);
    expect(runs, `${table}, ${row}: ${metric}`).toBe(1);
  }
  // Two tokens of a tiny model need not miss a page that a shadow could name.
  for (const { claim, value } of table === 'shadow' ? [] : getChecks(rows, [table])) {
    expect(value, `${table}: ${claim}`).not.toBeNaN();
  }
  return rows;
}

const getValue = (rows: readonly ResultRow[], row: string, metric: string): number =>
  rows.find((result) => result.row === row && result.metric === metric)?.median ?? Number.NaN;

test('kernels: every dispatch of a decoded token and of a prompt, beside the copy and the product of matrices', async () => {
  const rows = await measure('kernels', [{ ...tiny, name: 'other', architecture: 'olmoe', kvHeads: 4, experts: 16 }]);
  for (const name of ['default model', 'other']) {
    const copies = ['copy, of a buffer', 'copy, by a kernel'].map((copy) =>
      getValue(rows, `${name}, ${copy}`, 'ofCopy'),
    );
    expect(Math.max(...copies)).toBe(1);
    expect(getValue(rows, `${name}, gemm, operands from memory`, 'ofGemm')).toBe(1);
    const kernels = ['decode: expert_gate_up', 'decode: expert_down', 'decode: attention', 'decode: matvec, head'];
    for (const kernel of [...kernels, 'prefill: expert_gate_up_tiled', 'prefill: matmul, qkv']) {
      for (const metric of ['microseconds', 'gigabytesPerSecond', 'ofCopy', 'gigaflopsPerSecond', 'ofGemm']) {
        expect(getValue(rows, `${name}, ${kernel}`, metric), `${name}, ${kernel}: ${metric}`).toBeGreaterThan(0);
      }
    }
  }
  expect(rows.filter(({ median, metric }) => metric === 'gigabytesPerSecond' && median === 0)).toEqual([]);
});

test('decode and prefill: the model, and shapes of random weights at both budgets', async () => {
  const shapes = [{ ...tiny, name: 'other', layers: 3 }];
  for (const table of ['decode', 'prefill'] as const) {
    const rows = await measure(table, shapes);
    for (const row of table === 'decode' ? ['100%', '50%'] : ['100% 512 tokens', '50% 128 tokens']) {
      expect(getValue(rows, row, 'tokensPerSecond')).toBeGreaterThan(0);
    }
    for (const row of ['other 100%', 'other 50%']) {
      expect(getValue(rows, row, 'tokensPerSecond')).toBeGreaterThan(0);
      expect(getValue(rows, row, 'layers')).toBe(3);
    }
  }
});

/** `faults` and `storage` open files as workers alone may; `peers` has a test in Node. */
const otherTables = ['ladder', 'ladder-delayed', 'predictors', 'shadow', 'structured'] as const;

test.runIf(import.meta.env.WEBMOE_FULL).each(otherTables)('%s', async (table) => {
  await measure(table);
});
