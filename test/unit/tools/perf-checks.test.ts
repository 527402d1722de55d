import { expect, test } from 'vitest';
import { getChecks, passes } from '../../../tools/perf/checks.ts';
import { compareRungs, getRungMetrics, type Rung, residentRow } from '../../../tools/perf/ladder.ts';
import { getShadowMetrics } from '../../../tools/perf/page-tables.ts';
import type { GenerationSample } from '../../../tools/perf/protocol.ts';
import type { Metrics, ResultRow, TableName } from '../../../tools/perf/results.ts';
import { summarise } from '../../../tools/perf/results.ts';
import { getComparedLength, getPrefillMetrics } from '../../../tools/perf/speed-tables.ts';
import { formatTable } from '../../../tools/perf/text-tables.ts';

const getMetrics = (values: Readonly<Record<string, number>>): Metrics =>
  Object.fromEntries(Object.entries(values).map(([metric, value]) => [metric, { value, unit: '' }]));
const getRows = (table: TableName, byRow: Readonly<Record<string, Readonly<Record<string, number>>>>): ResultRow[] =>
  Object.entries(byRow).flatMap(([row, values]) => summarise(table, row, [getMetrics(values)]));

const goodLadder = {
  '100% (a) resident': { msPerToken: 20, sameAnswers: 1 },
  '100% (b) every layer': { msPerToken: 26, roundTripsPerToken: 6, sameAnswers: 1 },
  '50% (b) every layer': { roundTripsPerToken: 6, uploadsPerToken: 7, sameAnswers: 1 },
  '50% (c) fault-resume': { roundTripsPerToken: 5, uploadsPerToken: 7, sameAnswers: 1 },
  '50% (e) forecast': {
    roundTripsPerToken: 2.5,
    uploadsPerToken: 14,
    ratioToResident: 0.75,
    gapCaptured: 0.6,
    tokensPerSecond: 100,
    sameAnswers: 1,
  },
  '50% (d) run-ahead': { uploadsPerToken: 20, sameAnswers: 1 },
  '50% (g) self-draft': {
    tokensPerPass: 3,
    roundTripsPerToken: 1,
    uploadsPerToken: 23,
    tokensPerSecond: 80,
    sameAnswers: 1,
  },
  '50% (i) auto': { tokensPerSecond: 97, sameAnswers: 1 },
  '25% (d) run-ahead': { uploadsPerToken: 20, sameAnswers: 1 },
  '25% (g) self-draft': { roundTripsPerToken: 1.6, uploadsPerToken: 30, sameAnswers: 1 },
  'round trip': { roundTripMs: 1 },
};

const getMissed = (rows: readonly ResultRow[], table: TableName): string[] =>
  getChecks(rows, [table]).flatMap((check) => (passes(check) ? [] : [check.claim]));

test('a ladder at its very limits passes', () => {
  expect(getMissed(getRows('ladder', goodLadder), 'ladder')).toEqual([]);
});

test('each missed ratio of the ladder is named', () => {
  const forecast = {
    roundTripsPerToken: 3.1,
    uploadsPerToken: 15,
    ratioToResident: 0.7,
    gapCaptured: 0.5,
    sameAnswers: 0,
  };
  const rows = getRows('ladder', {
    ...goodLadder,
    '100% (b) every layer': { msPerToken: 26.1, roundTripsPerToken: 6, sameAnswers: 1 },
    '50% (e) forecast': { ...forecast, tokensPerSecond: 100 },
    '50% (g) self-draft': { tokensPerPass: 2.9, roundTripsPerToken: 1.1, uploadsPerToken: 24, tokensPerSecond: 101 },
    '25% (g) self-draft': { roundTripsPerToken: 1.7, uploadsPerToken: 31 },
  });
  expect(getMissed(rows, 'ladder')).toEqual([
    'rungs with the same tokens and log-probabilities, as a share',
    '50%: round trips of (e) / (b)',
    '50%: round trips of (e) / (c)',
    '50%: uploads of (e) / (c)',
    '50%: speed of (e) / resident',
    '50%: gap captured by (e)',
    '50%: tokens a pass of (g)',
    '50%: round trips of (g)',
    '50%: uploads of (g) / (d)',
    '25%: round trips of (g)',
    '25%: uploads of (g) / (d)',
    '50%: speed of (i) / the better of (e) and (g)',
    '100%: ms per token of (b)',
  ]);
});

test('a schema that costs too much is named, and one that slows what comes behind it', () => {
  const rows = getRows('structured', {
    '100% schema': { ratioToNoSchema: 0.7 },
    '100% no schema behind it': { ratioToNoSchema: 0.9 },
    '50% schema': { ratioToNoSchema: 0.69 },
    '50% no schema behind it': { ratioToNoSchema: 0.89 },
  });
  expect(getMissed(rows, 'structured')).toEqual([
    '50%: speed with a schema / without',
    '50%: speed without a schema behind one / before',
  ]);
  expect(getMissed([], 'structured')).toHaveLength(4);
});

test('one run with other tokens fails a rung whose median is right', () => {
  const rows = [
    ...getRows('predictors', { 'a rung': { sameAnswers: 1 } }),
    ...summarise(
      'predictors',
      'another',
      [1, 0, 1].map((sameAnswers) => getMetrics({ sameAnswers })),
    ),
  ];
  expect(getMissed(rows, 'predictors')).toHaveLength(1);
});

test('what was not measured passes nothing', () => {
  expect(getMissed([], 'ladder-delayed')).toHaveLength(4);
});

test('the delayed ladder compares speeds', () => {
  const rows = (speed: number) =>
    getRows('ladder-delayed', {
      '50% (b) every layer': { tokensPerSecond: 10, sameAnswers: 1 },
      '50% (e) forecast': { tokensPerSecond: speed, sameAnswers: 1 },
      '50% (i) auto': { tokensPerSecond: 20.8, sameAnswers: 1 },
    });
  expect(getMissed(rows(16), 'ladder-delayed')).toEqual([]);
  expect(getMissed(rows(15.9), 'ladder-delayed')).toEqual(['50%: speed of (e) / (b)']);
  expect(getMissed(rows(16.1), 'ladder-delayed')).toEqual(['50%: speed of (i) / (e)']);
});

test('OPFS has to come near raw reads, and to beat IndexedDB at its best', () => {
  const rows = (opfs: number) =>
    getRows('storage', {
      'raw opfs, 4 MiB': { megabytesPerSecond: 1000 },
      'opfs to GPU, 4 MiB, 1 at a time': { megabytesPerSecond: opfs },
      'opfs to GPU, 4 MiB, 8 at a time': { megabytesPerSecond: 100 },
      'indexeddb to GPU, 4 MiB, 1 at a time': { megabytesPerSecond: 80 },
      'indexeddb to GPU, 4 MiB, 8 at a time': { megabytesPerSecond: 170 },
    });
  expect(getMissed(rows(204), 'storage')).toEqual([]);
  expect(getMissed(rows(203), 'storage')).toEqual(['4 MiB: OPFS to GPU / the best of IndexedDB']);
  expect(getMissed(rows(199), 'storage')).toHaveLength(2);
  expect(getMissed([], 'storage')).toHaveLength(2);
});

const answer = (promptTokens: number, generatedTokens: number, prefillMs: number, decodeMs: number) =>
  ({
    firstTokenMs: prefillMs,
    tokenIds: [],
    logprobs: [],
    stats: {
      promptTokens,
      generatedTokens,
      prefillMs,
      decodeMs,
      hitRate: 0.5,
      faultingLayers: 10,
      roundTrips: 20,
      layersExecuted: 60,
      uploadBytes: { demand: 1000, useful: 400, wasted: 100 },
      draft: { proposed: 8, accepted: 5, passes: 5, sources: { off: 1, self: 4, lookup: 0, table: 0, grammar: 0 } },
      learned: { asked: 0, inTime: 0, late: 0 },
    },
  }) satisfies GenerationSample['answers'][number];

test("a rung's numbers are per decoded token, summed over prompts", () => {
  const sample = { loadMs: 0, answers: [answer(100, 11, 5, 100), answer(100, 11, 5, 300)] };
  const metrics = getRungMetrics(sample, { pageBytes: 100 });
  const values = Object.fromEntries(Object.entries(metrics).map(([metric, { value }]) => [metric, value]));
  expect(values).toMatchObject({
    tokensPerSecond: 50,
    msPerToken: 20,
    faultingLayersPerToken: 1,
    roundTripsPerToken: 2,
    uploadsPerToken: 1.5,
    'uploadsPerToken.demand': 1,
    'uploadsPerToken.useful': 0.4,
    'uploadsPerToken.wasted': 0.1,
    bytesPerToken: 150,
    tokensPerPass: 2,
  });
});

test('the gap is measured from the fault-resume rung of the same budget', () => {
  const rung = (row: string, percent: number): Rung => ({
    row,
    percent,
    paging: {},
    predictors: 'cold',
    eviction: 'lru',
  });
  const rungs = [rung(residentRow, 100), rung('50% (c) fault-resume', 50), rung('50% (e) forecast', 50)];
  const round = new Map([
    [residentRow, getMetrics({ tokensPerSecond: 40, faultingLayersPerToken: 0 })],
    ['50% (c) fault-resume', getMetrics({ tokensPerSecond: 20, faultingLayersPerToken: 4 })],
    ['50% (e) forecast', getMetrics({ tokensPerSecond: 30, faultingLayersPerToken: 1 })],
  ]);
  const compared = compareRungs(rungs, round);
  expect(compared.get('50% (e) forecast')).toMatchObject({
    ratioToResident: { value: 0.75 },
    gapCaptured: { value: 0.75 },
  });
  expect(compared.get('50% (c) fault-resume')).toMatchObject({ gapCaptured: { value: 0 } });
  expect(compared.get(residentRow)?.gapCaptured?.value).toBeNaN();
});

test('a prefill is compared with decode steps around its middle, and the first two answers after a load are left out', () => {
  const [short, long] = [12, 128].map((length) => getComparedLength(length, 11));
  expect([short, long]).toEqual([2, 59]);
  const sample = {
    loadMs: 0,
    answers: [
      answer(12, 11, 900, 9000),
      answer(16, 11, 900, 9000),
      answer(2, 11, 10, 100),
      answer(12, 11, 60, 9000),
      answer(59, 11, 160, 200),
      answer(128, 11, 320, 9000),
    ],
  };
  const values = (length: number) =>
    Object.values(getPrefillMetrics(sample, length, 11)).map(({ value }) => Number(value.toFixed(6)));
  expect(values(12)).toEqual([60, 200, 0.5]);
  expect(values(128)).toEqual([320, 400, 0.125]);
});

test('the shadow is judged by what it names of the misses, and by false pages per true one', () => {
  const counts = [
    { misses: 10, named: 8, falsePages: 1 },
    { misses: 10, named: 8, falsePages: 3 },
  ];
  expect(getShadowMetrics(counts)).toMatchObject({
    recall: { value: 0.8 },
    falsePerTrue: { value: 0.25 },
    misses: { value: 20 },
  });
});

test('a table shows the median, and the range where runs differ', () => {
  const rows = [
    ...summarise(
      'decode',
      '100%',
      [20, 10, 30].map((msPerToken) => getMetrics({ msPerToken })),
    ),
    ...summarise('decode', '50%', [getMetrics({ hitRate: 0.98765 })]),
  ];
  expect(formatTable('decode', rows)).toBe(
    [
      'decode (median of 3, min-max)',
      '            ms',
      '           per    hit',
      '         token   rate',
      '100%  20 10-30',
      '50%             0.988',
    ].join('\n'),
  );
});
