/** The table of kernels: bytes/s and FLOP/s of each dispatch of a pass, beside what the device does at best in the same run. */
import { type Measurement, measureRounds, type Round } from './measurement.ts';
import type { KernelKind } from './protocol.ts';
import { getPromptTokens } from './random-shapes.ts';
import type { Metrics, ResultRow } from './results.ts';
import { getCut } from './speed-tables.ts';

/** How the rows of the model that comes with webmoe begin. */
const DEFAULT_NAME = 'default model';
const DEFAULT_PROMPT_TOKENS = 128;

export async function measureKernels(measurement: Measurement): Promise<ResultRow[]> {
  const { bench, model, store, shapes, runs, report } = measurement;
  const rows: ResultRow[] = [];
  let usesTimestamps = false;
  for (const random of [undefined, ...shapes]) {
    const name = random?.name ?? DEFAULT_NAME;
    if (random) {
      report(`kernels: making and loading ${name}, ${random.layers} layers of random weights`);
      await bench.install('memory', random);
    }
    const session = await bench.openKernels(
      random
        ? { store: 'memory', random, promptTokens: getPromptTokens(model) }
        : { store, promptTokens: DEFAULT_PROMPT_TOKENS },
    );
    usesTimestamps = session.usesTimestamps;
    try {
      const kinds = session.kinds.map((kind, index) => ({ ...kind, index, row: `${name}, ${kind.row}` }));
      rows.push(
        ...(await measureRounds(
          'kernels',
          { runs, report },
          kinds,
          async ({ index, ...kind }) => getKernelMetrics(kind, await bench.timeKernel(index)),
          (round) => compareKernels(kinds, round),
        )),
      );
    } finally {
      await bench.closeKernels();
    }
  }
  const facts = await measureRounds(
    'kernels',
    { runs: 1, report: () => {} },
    [{ row: 'device' }, ...shapes.map((shape) => ({ row: `${shape.name}, cut`, shape }))],
    async (row): Promise<Metrics> =>
      'shape' in row
        ? { ...getCut(row.shape), promptTokens: { value: getPromptTokens(model), unit: 'tokens' } }
        : {
            isSoftware: { value: Number(model.isSoftware), unit: 'yes' },
            usesTimestamps: { value: Number(usesTimestamps), unit: 'yes' },
          },
  );
  return [...rows, ...facts];
}

export function getKernelMetrics({ bytes, flops }: KernelKind, ms: number): Metrics {
  return {
    microseconds: { value: ms * 1e3, unit: 'us' },
    gigabytesPerSecond: { value: bytes / ms / 1e6, unit: 'GB/s' },
    ...(flops > 0 && { gigaflopsPerSecond: { value: flops / ms / 1e6, unit: 'GFLOP/s' } }),
  };
}

/** Shares of the better copy's bytes/s and of the better product's FLOP/s in the same round. */
export function compareKernels(kinds: readonly Pick<KernelKind, 'row'>[], round: Round): Round {
  const getBest = (pattern: RegExp, metric: string): number =>
    Math.max(...kinds.filter(({ row }) => pattern.test(row)).map(({ row }) => round.get(row)?.[metric]?.value ?? 0));
  const copy = getBest(/, copy, /, 'gigabytesPerSecond');
  const gemm = getBest(/, gemm, /, 'gigaflopsPerSecond');
  return new Map(
    [...round].map(([row, metrics]) => {
      const { gigabytesPerSecond: bytes, gigaflopsPerSecond: flops } = metrics;
      return [
        row,
        {
          ...metrics,
          ...(bytes && { ofCopy: { value: bytes.value / copy, unit: 'ratio' } }),
          ...(flops && { ofGemm: { value: flops.value / gemm, unit: 'ratio' } }),
        },
      ];
    }),
  );
}
