import { expect, test } from 'vitest';
import { createMemoryStore } from '../../../src/store/memory-store.ts';
import { measureDelayedLadder, measureLadder, measurePredictors } from '../../../tools/perf/ladder.ts';
import { limitStore } from '../../../tools/perf/limited-store.ts';
import { readPrompts } from '../../../tools/perf/prompt-file.ts';
import type { Bench, GenerationJob } from '../../../tools/perf/protocol.ts';

/** Answers every job alike, 10 ms per token, and notes the jobs. */
function createNotedBench(msPerToken = 10, hasLearned = true) {
  const jobs: GenerationJob[] = [];
  const bench: Bench = {
    install: async () => ({
      name: '',
      layers: 6,
      moeLayers: 6,
      experts: 32,
      hasLearned,
      pageBytes: 1000,
      adapter: '',
      isSoftware: true,
    }),
    getPrompt: async () => ({ ids: [], text: '' }),
    openKernels: async () => ({ kinds: [], usesTimestamps: false }),
    timeKernel: async () => 1,
    closeKernels: async () => {},
    async generate(job) {
      jobs.push(job);
      const stats = {
        promptTokens: 10,
        generatedTokens: job.tokens,
        prefillMs: 1,
        decodeMs: (job.tokens - 1) * msPerToken,
        hitRate: 1,
        faultingLayers: 0,
        roundTrips: 1,
        layersExecuted: 6,
        uploadBytes: { demand: 0, useful: 0, wasted: 0 },
        draft: {
          proposed: 0,
          accepted: 0,
          passes: job.tokens - 1,
          sources: { off: 0, self: 0, lookup: 0, table: 0, grammar: 0 },
        },
        learned: { asked: job.paging?.predictor?.endsWith('learned') ? 8 : 0, inTime: 6, late: 1 },
      };
      return { loadMs: 1, answers: job.prompts.map(() => ({ firstTokenMs: 1, stats, tokenIds: [1], logprobs: [] })) };
    },
    calibrate: async () => ({ roundTripMs: 1, deadLayerMs: 0.1, uploadBytesPerMs: 1e6 }),
    serveFaults: async () => [],
    readPages: async () => ({ pages: 0, bytes: 0, elapsedMs: 1 }),
    streamRecords: async () => ({ pages: 0, bytes: 0, elapsedMs: 1 }),
    watchShadow: async () => [],
  };
  return { bench, jobs };
}

async function measure(table: typeof measureLadder, runs: number, msPerToken?: number, hasLearned?: boolean) {
  const { bench, jobs } = createNotedBench(msPerToken, hasLearned);
  const model = await bench.install('memory');
  const rows = await table({
    bench,
    model,
    store: 'indexeddb',
    runs,
    tokens: 5,
    prompts: await readPrompts(null),
    shapes: [],
    peers: null,
    report: () => {},
  });
  return { rows, jobs };
}

test('the ladder has its rungs at three budgets, each as often as there are runs', async () => {
  const { rows } = await measure(measureLadder, 2);
  expect(rows.filter(({ metric }) => metric === 'tokensPerSecond').map(({ row, runs }) => [row, runs])).toEqual(
    [
      '100% (a) resident',
      '100% (b) every layer',
      '100% (j) run on',
      '50% (b) every layer',
      '50% (c) fault-resume',
      '50% (d) run-ahead',
      '50% (e) forecast cold',
      '50% (e) forecast',
      '50% (f) with learned',
      '50% (j) run on',
      '50% (g) self-draft',
      '50% (h) n-gram draft',
      '50% (i) auto',
      '25% (c) fault-resume',
      '25% (e) forecast cold',
      '25% (e) forecast',
      '25% (d) run-ahead',
      '25% (g) self-draft',
      '25% (h) n-gram draft',
      '25% (i) auto',
      '75% (c) fault-resume',
      '75% (e) forecast cold',
      '75% (e) forecast',
      '75% (j) run on',
    ].map((row) => [row, 2]),
  );
  expect(rows.find(({ metric }) => metric === 'roundTripMs')).toMatchObject({ row: 'round trip', median: 1, runs: 2 });
});

test('each round begins with another rung', async () => {
  const { jobs } = await measure(measureLadder, 2);
  const rungs = (jobs.length - 1) / 2;
  const [first, second] = [jobs.slice(1, rungs + 1), jobs.slice(rungs + 1)];
  expect(second.at(-1)).toEqual(first[0]);
  expect(second.slice(0, -1)).toEqual(first.slice(1));
});

test.each([
  [10, 5],
  [3, 2],
])('with %d ms per resident token a read-back waits %d ms more, and pages come slowly', async (msPerToken, delayMs) => {
  const { rows, jobs } = await measure(measureDelayedLadder, 1, msPerToken);
  expect(rows.find(({ metric }) => metric === 'readbackDelayMs')?.median).toBe(delayMs);
  // Two before: one to compile, one to measure a resident token.
  expect(jobs.slice(0, 2).every(({ readbackDelayMs }) => readbackDelayMs === undefined)).toBe(true);
  for (const job of jobs.slice(2)) {
    expect(job).toMatchObject({ readbackDelayMs: delayMs, storeBytesPerSecond: 300e6, store: 'memory' });
    expect(job.hostCacheBytes).toBe(24_000);
  }
});

test('every predictor is compared at half of the experts', async () => {
  const { rows } = await measure(measurePredictors, 1);
  expect([...new Set(rows.map(({ row }) => row))]).toEqual([
    '50% (c) fault-resume',
    '50% none',
    '50% recency',
    '50% token',
    '50% affinity',
    '50% lookahead',
    '50% learned',
    '50% ensemble',
    '50% ensemble+learned',
  ]);
});

test("of a learned predictor's answers the share is shown that came in time, and that came late; of others nothing", async () => {
  const { rows } = await measure(measurePredictors, 1);
  const shares = rows.filter(({ metric }) => metric.startsWith('learned.'));
  expect(shares.map(({ row, metric, median }) => [row, metric, median])).toEqual([
    ['50% learned', 'learned.inTime', 0.75],
    ['50% learned', 'learned.late', 0.125],
    ['50% ensemble+learned', 'learned.inTime', 0.75],
    ['50% ensemble+learned', 'learned.late', 0.125],
  ]);
});

test('without a learned predictor the tables go without its rows', async () => {
  const { rows } = await measure(measurePredictors, 1, 10, false);
  expect(rows.some(({ row }) => row.includes('learned'))).toBe(false);
  expect(rows.some(({ row }) => row === '50% ensemble')).toBe(true);
});

test('rungs before the forecast evict the least recently used', async () => {
  const { jobs } = await measure(measureLadder, 1);
  for (const { paging, eviction, predictors, draft } of jobs.slice(1)) {
    expect(eviction).toBe(paging?.predictor === 'none' && draft?.kind === 'off' ? 'lru' : 'rates');
    if (predictors === 'shipped') expect(paging?.predictor).toMatch(/^ensemble/);
  }
});

test('a limited store gives the same bytes, no faster than its rate', async () => {
  const base = createMemoryStore();
  const page = Uint8Array.from({ length: 5000 }, (_, index) => index % 251);
  await base.writeRecords('model', [['page', page]]);
  const store = limitStore(base, { bytesPerSecond: 1e6 });
  const startMs = performance.now();
  const pages = await Promise.all([1, 2, 3, 4].map(() => store.readRecord('model', 'page')));
  expect(performance.now() - startMs).toBeGreaterThanOrEqual(20);
  expect(pages.every((bytes) => bytes.every((byte, index) => byte === page[index]))).toBe(true);
});

test('a job neither finds nor leaves what predictors learn', async () => {
  const base = createMemoryStore();
  await base.writeState('model', 'predictor-token', { version: 1 });
  const store = limitStore(base, { bytesPerSecond: undefined });
  await store.writeState('model', 'predictor-token', { version: 2 });
  expect(await store.readState('model', 'predictor-token')).toBeUndefined();
  expect(await base.readState('model', 'predictor-token')).toEqual({ version: 1 });
});
