/**
 * The ladder: what each step of paging brings, from waiting for every layer to a forecast, beside a resident model.
 * All rungs are options of one engine. Owns the rungs and what is counted on them.
 */
import type { DraftOptions, EvictionName, PagingOptions, PredictorName } from '../../src/engine/engine.ts';
import { type Measurement, measureRounds, type Round } from './measurement.ts';
import type { BenchModel, EngineJob, GenerationSample } from './protocol.ts';
import type { Metrics, ResultRow, TableName } from './results.ts';

export interface Rung {
  readonly row: string;
  readonly percent: number;
  readonly paging: PagingOptions;
  readonly predictors: EngineJob['predictors'];
  readonly eviction: EvictionName;
  /** Absent: one token a pass. */
  readonly draft?: DraftOptions;
  /** Absent: one token a submission. */
  readonly tokensPerSubmit?: 1 | 'auto';
}

export const residentRow = '100% (a) resident';

const everyLayer: PagingOptions = { predictor: 'none', readBackEveryLayer: true };
/** The token in one submission, whatever would be cheaper: round trips are what these rungs show. */
const wholeToken = 1024;
const faultResume: PagingOptions = { predictor: 'none', runAhead: false, segmentLayers: wholeToken };
const runAhead: PagingOptions = { predictor: 'none', runAhead: true, segmentLayers: wholeToken };
const forecast: PagingOptions = { predictor: 'ensemble' };
const learned: PagingOptions = { predictor: 'ensemble+learned' };

/** Up to (d), pages are evicted as everyone does it. */
function getPlainRung(percent: number, name: string, paging: PagingOptions): Rung {
  return { row: `${percent}% ${name}`, percent, paging, predictors: 'cold', eviction: 'lru' };
}

function getForecastRung(
  percent: number,
  name: string,
  paging: PagingOptions,
  predictors: Rung['predictors'] = 'shipped',
): Rung {
  return { row: `${percent}% ${name}`, percent, paging, predictors, eviction: 'rates' };
}

function getPartRungs(percent: number): Rung[] {
  return [
    getPlainRung(percent, '(c) fault-resume', faultResume),
    getForecastRung(percent, '(e) forecast cold', forecast, 'cold'),
    getForecastRung(percent, '(e) forecast', forecast),
  ];
}

/** The draft's own routes are its forecast; what a predictor would bring in besides costs more than it saves. */
const selfDraft: DraftOptions = { kind: 'self' };

function getDraftRungs(percent: number): Rung[] {
  const self = percent < 50 ? { ...selfDraft, tokens: 2 } : selfDraft;
  return [
    { ...getForecastRung(percent, '(g) self-draft', runAhead, 'cold'), draft: self },
    { ...getForecastRung(percent, '(h) n-gram draft', forecast), draft: { kind: 'ngram' } },
    // As an application has it that asks for nothing.
    { ...getForecastRung(percent, '(i) auto', forecast), draft: { kind: 'auto' }, tokensPerSubmit: 'auto' },
  ];
}

/** Tokens one behind the other in a submission, where that is measured to pay. */
function getRunOnRung(percent: number): Rung {
  return { ...getForecastRung(percent, '(j) run on', forecast), tokensPerSubmit: 'auto' };
}

const resident: Rung = getPlainRung(100, '(a) resident', faultResume);

const rungs: readonly Rung[] = [
  resident,
  getPlainRung(100, '(b) every layer', everyLayer),
  getRunOnRung(100),
  getPlainRung(50, '(b) every layer', everyLayer),
  getPlainRung(50, '(c) fault-resume', faultResume),
  getPlainRung(50, '(d) run-ahead', runAhead),
  ...getPartRungs(50).slice(1),
  getForecastRung(50, '(f) with learned', learned),
  getRunOnRung(50),
  ...getDraftRungs(50),
  ...getPartRungs(25),
  getPlainRung(25, '(d) run-ahead', runAhead),
  ...getDraftRungs(25),
  ...getPartRungs(75),
  getRunOnRung(75),
];

const comparedPredictors = [
  'recency',
  'token',
  'affinity',
  'lookahead',
  'learned',
  'ensemble',
  'ensemble+learned',
] as const satisfies PredictorName[];

/** Every predictor by itself, against (c), which forecasts nothing and evicts by LRU. */
const predictorRungs: readonly Rung[] = [
  getPlainRung(50, '(c) fault-resume', faultResume),
  getForecastRung(50, 'none', { predictor: 'none', runAhead: false }, 'cold'),
  ...comparedPredictors.map((predictor) => getForecastRung(50, predictor, { predictor })),
];

/** The rungs that can be measured where the bench is. */
function getMeasurable(tableRungs: readonly Rung[], { hasLearned }: BenchModel): readonly Rung[] {
  return hasLearned ? tableRungs : tableRungs.filter(({ paging }) => !paging.predictor?.endsWith('learned'));
}

/** Rates of desktop browsers' storage, which the delayed ladder keeps to. */
const delayedStoreBytesPerSecond = 300e6;
const leastDelayMs = 2;
/** RAM between store and GPU on the delayed ladder, as a share of all pages: what a model has that outgrows it. */
const delayedHostShare = 1 / 8;

export async function measureLadder(measurement: Measurement): Promise<ResultRow[]> {
  await compileFirst(measurement);
  return measureRungs('ladder', measurement, rungs, {}, async (round) => {
    const { roundTripMs, deadLayerMs } = await measurement.bench.calibrate();
    const metrics = {
      roundTripMs: { value: roundTripMs, unit: 'ms' },
      deadLayerMs: { value: deadLayerMs, unit: 'ms' },
    };
    return new Map([...round, ['round trip', metrics]]);
  });
}

export async function measureDelayedLadder(measurement: Measurement): Promise<ResultRow[]> {
  await compileFirst(measurement);
  const { metrics } = await measureRung(measurement, resident, {});
  const residentMs = metrics.msPerToken?.value ?? 0;
  const readbackDelayMs = Math.max(leastDelayMs, residentMs / 2);
  const { pageBytes, moeLayers, experts } = measurement.model;
  const slow: Partial<EngineJob> = {
    readbackDelayMs,
    storeBytesPerSecond: delayedStoreBytesPerSecond,
    hostCacheBytes: Math.round(pageBytes * moeLayers * experts * delayedHostShare),
    // Faster than the rate that is set; IndexedDB need not be.
    store: 'memory',
  };
  if (measurement.store !== 'memory') await measurement.bench.install('memory');
  const rows = await measureRungs('ladder-delayed', measurement, rungs, slow);
  const delay = { readbackDelayMs: { value: readbackDelayMs, unit: 'ms' } };
  return [
    ...rows,
    ...(await measureRounds(
      'ladder-delayed',
      { ...measurement, runs: 1 },
      [{ row: 'added delay' }],
      async () => delay,
    )),
  ];
}

export async function measurePredictors(measurement: Measurement): Promise<ResultRow[]> {
  await compileFirst(measurement);
  return measureRungs('predictors', measurement, predictorRungs, {});
}

/** Discarded: the first load in a browser compiles what later ones find compiled. */
async function compileFirst({ bench, store }: Measurement): Promise<void> {
  const prompts = [{ promptTokens: 12 }];
  await bench.generate({ store, expertBudget: { percent: 100 }, predictors: 'cold', prompts, tokens: 2 });
}

async function measureRungs(
  table: TableName,
  measurement: Measurement,
  allRungs: readonly Rung[],
  job: Partial<EngineJob>,
  addToRound: (round: Round) => Promise<Round> = async (round) => round,
): Promise<ResultRow[]> {
  const tableRungs = getMeasurable(allRungs, measurement.model);
  let reference: string | undefined;
  const measureRow = async (rung: Rung): Promise<Metrics> => {
    const { metrics, answers } = await measureRung(measurement, rung, job);
    reference ??= answers;
    return { ...metrics, sameAnswers: { value: answers === reference ? 1 : 0, unit: 'yes' } };
  };
  return measureRounds(table, measurement, tableRungs, measureRow, (round) =>
    addToRound(compareRungs(tableRungs, round)),
  );
}

async function measureRung(
  { bench, model, store, tokens, prompts }: Measurement,
  { percent, paging, predictors, eviction, draft = { kind: 'off' }, tokensPerSubmit = 1 }: Rung,
  job: Partial<EngineJob>,
): Promise<{ metrics: Metrics; answers: string }> {
  const sample = await bench.generate({
    store,
    ...job,
    expertBudget: { percent },
    paging,
    draft,
    tokensPerSubmit,
    predictors,
    eviction,
    tokens,
    prompts,
  });
  return { metrics: getRungMetrics(sample, model), answers: getAnswers(sample) };
}

/** Token ids and log-probabilities, to the last bit: JSON keeps a double's every bit but the sign of zero. */
function getAnswers({ answers }: GenerationSample): string {
  return JSON.stringify(answers.map(({ tokenIds, logprobs }) => [tokenIds, logprobs]));
}

/** Sums over all prompts, per decoded token: the first of each comes from the prompt. */
export function getRungMetrics({ answers }: GenerationSample, { pageBytes }: Pick<BenchModel, 'pageBytes'>): Metrics {
  const sum = (get: (stats: GenerationSample['answers'][number]['stats']) => number): number =>
    answers.reduce((total, { stats }) => total + get(stats), 0);
  const tokens = sum((stats) => stats.generatedTokens - 1);
  const decodeMs = sum((stats) => stats.decodeMs);
  const demand = sum((stats) => stats.uploadBytes.demand);
  const useful = sum((stats) => stats.uploadBytes.useful);
  const wasted = sum((stats) => stats.uploadBytes.wasted);
  const bytes = demand + useful + wasted;
  const asked = sum((stats) => stats.learned.asked);
  const perToken = (total: number, unit: string) => ({ value: total / tokens, unit });
  return {
    tokensPerSecond: { value: (tokens / decodeMs) * 1000, unit: 'tokens/s' },
    msPerToken: perToken(decodeMs, 'ms'),
    faultingLayersPerToken: perToken(
      sum((stats) => stats.faultingLayers),
      'layers',
    ),
    roundTripsPerToken: perToken(
      sum((stats) => stats.roundTrips),
      'round trips',
    ),
    layersExecutedPerToken: perToken(
      sum((stats) => stats.layersExecuted),
      'layers',
    ),
    uploadsPerToken: perToken(bytes / pageBytes, 'pages'),
    'uploadsPerToken.demand': perToken(demand / pageBytes, 'pages'),
    'uploadsPerToken.useful': perToken(useful / pageBytes, 'pages'),
    'uploadsPerToken.wasted': perToken(wasted / pageBytes, 'pages'),
    bytesPerToken: perToken(bytes, 'bytes'),
    hitRate: { value: sum((stats) => stats.hitRate) / answers.length, unit: 'share' },
    tokensPerPass: { value: tokens / sum((stats) => stats.draft.passes), unit: 'tokens' },
    ...(asked > 0 && {
      'learned.inTime': { value: sum((stats) => stats.learned.inTime) / asked, unit: 'share' },
      'learned.late': { value: sum((stats) => stats.learned.late) / asked, unit: 'share' },
    }),
    prefillMs: { value: sum((stats) => stats.prefillMs) / answers.length, unit: 'ms' },
  };
}

/** Speed as a share of the resident model's, and how much of the way from plain faults to none a rung has gone. */
export function compareRungs(tableRungs: readonly Rung[], round: Round): Round {
  const getValue = (row: string, metric: string): number => round.get(row)?.[metric]?.value ?? Number.NaN;
  return new Map(
    tableRungs.flatMap(({ row, percent }) => {
      const metrics = round.get(row);
      if (!metrics) return [];
      const faults = getValue(`${percent}% (c) fault-resume`, 'faultingLayersPerToken');
      const compared: Metrics = {
        ratioToResident: {
          value: getValue(row, 'tokensPerSecond') / getValue(residentRow, 'tokensPerSecond'),
          unit: 'ratio',
        },
        // A forecast without a miss has no fault: (policy - LRU) / (0 - LRU).
        gapCaptured: { value: (faults - getValue(row, 'faultingLayersPerToken')) / faults, unit: 'share' },
      };
      return [[row, { ...metrics, ...compared }] as const];
    }),
  );
}
