import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ReplayRow, replayTraces } from '../../../src/routing/replay/rows.ts';
import { formatTraceHeader, formatTraceToken } from '../../../src/routing/trace.ts';
import { run } from '../../../tools/replay/cli.ts';
import { parseReplayFlags } from '../../../tools/replay/flags.ts';
import { readTraceFile } from '../../../tools/replay/trace-file.ts';
import { ToolError } from '../../../tools/tool-error.ts';
import { createRandom } from '../random.ts';
import { startSpentTime } from '../spent-time.ts';
import { makeTokens, type TraceSize } from './traces.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'webmoe-replay-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function writeTrace(name: string, seed: number, size: TraceSize, model = 'random'): string {
  const { layers, experts, expertsPerToken } = size;
  const layerIndices = Array.from({ length: layers }, (_, layer) => layer + 1);
  const lines = [...makeTokens(createRandom(seed), size)].map(formatTraceToken);
  const path = join(folder, name);
  writeFileSync(path, formatTraceHeader({ model, layers, layerIndices, experts, expertsPerToken }) + lines.join(''));
  return path;
}

function runReplay(...args: string[]) {
  return spawnSync(process.execPath, ['tools/run.mjs', 'replay', ...args], { encoding: 'utf8' });
}

async function getFlatRows(...args: string[]): Promise<ReplayRow[]> {
  const flags = parseReplayFlags(args);
  const read = (paths: readonly string[]) => Promise.all(paths.map((path) => readTraceFile(path)));
  return replayTraces(await read(flags.traces), await read(flags.learn), flags).flat();
}

const small = { layers: 3, experts: 12, expertsPerToken: 3, tokens: 120 };

test('--json writes one array: a row per policy, predictor and slots, with the fields of the contract', () => {
  const path = writeTrace('a.jsonl', 1, small);
  const args = ['--trace', path, '--slots', '6', '--slots', '12', '--policy', 'lru', '--policy', 'belady'];
  const { status, stdout } = runReplay(...args, '--predictor', 'none', '--predictor', 'oracle', '--json');
  expect(status).toBe(0);
  const rows = JSON.parse(stdout) as ReplayRow[];
  expect(rows.map(({ policy, predictor, slots }) => `${policy} ${predictor} ${slots}`)).toEqual([
    'lru none 6',
    'lru oracle 6',
    'belady none 6',
    'belady oracle 6',
    'lru none 12',
    'lru oracle 12',
    'belady none 12',
    'belady oracle 12',
  ]);
  for (const row of rows) {
    expect(row).toMatchObject({
      hitRate: expect.any(Number),
      hitRateAfterPrefetch: row.predictor === 'oracle' ? 1 : row.hitRate,
      faultingLayersPerToken: expect.any(Number),
      uploadsPerToken: { demand: expect.any(Number), useful: expect.any(Number), wasted: expect.any(Number) },
      recall: row.predictor === 'oracle' ? { 0: { 3: 1, 6: 1 } } : {},
      predictorMsPerToken: expect.any(Number),
      gapCaptured: expect.any(Number),
      tokens: 120,
    });
  }
  expect(rows.filter((row) => 'srp' in row || 'sch' in row)).toEqual([rows[0]]);
  expect(rows[0]).toMatchObject({ srp: expect.any(Number), sch: expect.any(Number), gapCaptured: 0 });
  expect(rows[1]?.gapCaptured).toBe(1);
});

test('without --json it prints tables', () => {
  const path = writeTrace('a.jsonl', 1, small);
  const { status, stdout } = runReplay('--trace', path, '--slots', '6', '--predictor', 'ensemble');
  expect(status).toBe(0);
  expect(stdout).toMatch(/^random: 120 tokens\npolicy +predictor +slots +hit rate/);
  expect(stdout).toMatch(/^lru +ensemble +6 +0\.\d{3}/m);
  expect(stdout).toMatch(/recall@6/);
  expect(stdout).toMatch(/^a\.jsonl +16 /m);
});

test('files are replayed cold, and those of one model are counted together', async () => {
  const [a, b] = [writeTrace('a.jsonl', 1, small), writeTrace('b.jsonl', 2, { ...small, tokens: 60 })];
  const args = ['--slots', '6', '--predictor', 'ensemble'];
  const [rowA, rowB] = [...(await getFlatRows('--trace', a, ...args)), ...(await getFlatRows('--trace', b, ...args))];
  const both = await getFlatRows('--trace', a, '--trace', b, ...args);
  expect(both).toHaveLength(1);
  const faults = rowA!.faultingLayersPerToken * 120 + rowB!.faultingLayersPerToken * 60;
  expect(both[0]!.faultingLayersPerToken * 180).toBeCloseTo(faults, 8);
  const twice = await getFlatRows('--trace', a, '--trace', a, ...args);
  expect(twice[0]).toMatchObject({
    hitRate: rowA!.hitRate,
    recall: rowA!.recall,
    uploadsPerToken: rowA!.uploadsPerToken,
  });
  expect(both[0]!.localRouting?.map(({ trace }) => trace)).toEqual(['a.jsonl', 'b.jsonl']);
});

test('traces of different models have rows of their own', async () => {
  const [a, b] = [writeTrace('a.jsonl', 1, small), writeTrace('c.jsonl', 3, { ...small, experts: 20 }, 'other')];
  const rows = await getFlatRows('--trace', a, '--trace', b, '--slots', '6');
  expect(rows.map(({ model }) => model)).toEqual(['random', 'other']);
  expect(rows.every((row) => 'srp' in row)).toBe(true);
});

test('--learn teaches the predictors without being counted', async () => {
  const [a, b] = [writeTrace('a.jsonl', 1, { ...small, tokens: 2000 }), writeTrace('b.jsonl', 2, small)];
  const args = ['--trace', b, '--slots', '6', '--predictor', 'token'];
  const [[cold], [learnt]] = [await getFlatRows(...args), await getFlatRows(...args, '--learn', a)];
  expect(learnt!.tokens).toBe(120);
  expect(learnt!.recall[0]![3]!).toBeGreaterThan(cold!.recall[0]![3]!);
});

test('a page below --min-probability is not prefetched', async () => {
  const path = writeTrace('a.jsonl', 1, small);
  const uploads = async (share: string) => {
    const args = ['--trace', path, '--slots', '6', '--predictor', 'ensemble', '--min-probability', share];
    const { useful, wasted } = (await getFlatRows(...args))[0]!.uploadsPerToken;
    return useful + wasted;
  };
  expect(await uploads('1')).toBe(0);
  expect(await uploads('0.5')).toBeLessThan(await uploads('0'));
});

const badArguments: [string, string[], RegExp][] = [
  ['no trace', ['--slots', '4'], /^BAD_ARGUMENT: --trace is missing/],
  ['no slots', ['--trace', 'x'], /^BAD_ARGUMENT: --slots is missing/],
  [
    'no number of slots',
    ['--trace', 'x', '--slots', '50%'],
    /^BAD_ARGUMENT: --slots is "50%"; allowed: a whole number/,
  ],
  ['an unknown policy', ['--trace', 'x', '--slots', '4', '--policy', 'fifo'], /--policy is "fifo"; allowed: lru, lfu/],
  ['an unknown predictor', ['--trace', 'x', '--slots', '4', '--predictor', 'x'], /--predictor is "x"; allowed: none/],
  ['a seed twice', ['--trace', 'x', '--slots', '4', '--seed', '1', '--seed', '2'], /--seed is given twice/],
  ['an unknown flag', ['--trace', 'x', '--slots', '4', '--speed'], /--speed.*Allowed flags: --trace/],
  ['no such file', ['--trace', 'no-such.jsonl', '--slots', '4'], /--trace is "no-such.jsonl", which does not exist/],
  ['a folder', ['--trace', '.', '--slots', '4'], /--trace is "\.", which cannot be read \(EISDIR\)/],
];
test.each(badArguments)('%s is an error', async (_name, args, message) => {
  const error = await run([...args, '--json']).catch((thrown: ToolError) => thrown);
  expect(error).toBeInstanceOf(ToolError);
  const { code, message: text } = error as ToolError;
  expect(`${code}: ${text}`).toMatch(message);
});

test('a file to learn from that is not there is named by its own flag', async () => {
  const learning = run(['--trace', writeTrace('a.jsonl', 1, small), '--learn', 'no-such.jsonl', '--slots', '6']);
  const message = expect.stringContaining('--learn is "no-such.jsonl", which does not exist');
  await expect(learning).rejects.toMatchObject({ code: 'BAD_ARGUMENT', message });
});

test('fewer slots than experts per token are refused with the smallest number', () => {
  const { status, stderr } = runReplay('--trace', writeTrace('a.jsonl', 1, small), '--slots', '2');
  expect(status).toBe(1);
  expect(stderr).toMatch(/^BAD_ARGUMENT: slots is 2, but .* up to 3 experts in a layer; give at least 3$/m);
});

test('a file that is no trace is an error that names file and line', () => {
  const path = join(folder, 'bad.jsonl');
  writeFileSync(path, 'GGUF\u0003');
  const { status, stdout, stderr } = runReplay('--trace', path, '--slots', '4', '--json');
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr).toMatch(/^BAD_FILE: .*bad\.jsonl, line 1: the line is not JSON/m);
});

test('a 70,000-token trace of 26 layers x 64 experts replays in under 30 s, a part of it in that part of the time', async () => {
  const random = createRandom(11);
  const size = { layers: 26, experts: 64, expertsPerToken: 6, tokens: process.env.WEBMOE_FULL ? 70_000 : 2000 };
  const path = writeTrace('large.jsonl', random.integer(0, 99), size);
  const getSpentMs = startSpentTime();
  await getFlatRows('--trace', path, '--slots', '32', '--policy', 'lru', '--predictor', 'token');
  expect(getSpentMs() / 1000).toBeLessThan((30 * size.tokens) / 70_000 + 1);
}, 300_000);
