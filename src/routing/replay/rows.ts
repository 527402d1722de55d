/**
 * The rows of a replay: one per (policy, predictor, slots) over all traces of one model, each trace replayed cold.
 */

import { EngineError } from '../../errors';
import type { Predictor } from '../predictor';
import { createPredictor } from '../predictors';
import { getSegmentCache, getSegmentRouting, segmentLengths } from './local-routing';
import { getContext, getModelKey, getRoutes, groupByModel, type PackedTrace } from './packed-trace';
import { createPolicy, type PolicyName } from './policies';
import { createOracle, type PredictorName } from './predictors';
import { createCounters, type ReplayCounters, replay } from './simulator';

/** Segment length of the fields `srp` and `sch`: the one of the paper's tables. */
const referenceSegment = 16;

/** What is replayed: every combination of slots, policies and predictors is a row. */
export interface ReplayOptions {
  /** Slots per layer, one row or more for each; at least the trace's experts per token. */
  readonly slots: readonly number[];
  readonly policies: readonly PolicyName[];
  readonly predictors: readonly PredictorName[];
  /** Pages per layer that one prediction names at most. Absent: the trace's experts per token. */
  readonly prefetchPages?: number;
  /** Pages below this probability are not prefetched, 0 to 1. */
  readonly minProbability: number;
  /** Of the policy `random`. */
  readonly seed: number;
}

/** Fields of CONTRACT.md; what is "per token" counts every line of the traces. */
export interface ReplayRow {
  readonly policy: PolicyName;
  readonly predictor: PredictorName;
  readonly slots: number;
  readonly hitRate: number;
  readonly hitRateAfterPrefetch: number;
  readonly faultingLayersPerToken: number;
  readonly uploadsPerToken: { readonly demand: number; readonly useful: number; readonly wasted: number };
  readonly recall: Record<string, Record<string, number>>;
  readonly predictorMsPerToken: number;
  readonly model: string;
  readonly tokens: number;
  /** (LRU - this) / (LRU - perfect prefetch) on faulting layers; only beside a row of `lru` without predictor. */
  gapCaptured?: number;
  /** On a model's first row: of its traces together. `srp` is null when no conversation is as long as a segment. */
  srp?: number | null;
  sch?: number;
  /** On a model's first row: of each trace, by segment length in tokens. */
  localRouting?: LocalRouting[];
}

/** How local the routing of one trace is (arXiv 2505.16056), by segment length in tokens. */
export interface LocalRouting {
  readonly trace: string;
  readonly srp: Record<string, number | null>;
  readonly sch: Record<string, number>;
}

/**
 * Rows by model: traces of the same model are counted together.
 * @param learn traces that predictors learn from before each replay; nothing of them is counted
 * @throws EngineError `BAD_ARGUMENT`
 */
export function replayTraces(
  traces: readonly PackedTrace[],
  learn: readonly PackedTrace[],
  options: ReplayOptions,
): ReplayRow[][] {
  const models = groupByModel(traces);
  const keys = models.map(([first]) => getModelKey(first as PackedTrace));
  for (const trace of learn) {
    if (keys.includes(getModelKey(trace))) continue;
    throw new EngineError(
      'BAD_ARGUMENT',
      `${trace.name}, to learn from, is not of the model of any trace; leave it out`,
    );
  }
  for (const [first] of models) checkSlots(first as PackedTrace, options.slots);
  return models.map((ofModel, index) => {
    const learnt = learn.filter((trace) => getModelKey(trace) === keys[index]);
    return getModelRows(ofModel, learnt, options);
  });
}

function checkSlots({ name, header }: PackedTrace, counts: readonly number[]): void {
  const { expertsPerToken } = header;
  const tooFew = counts.find((slots) => slots < expertsPerToken);
  if (tooFew === undefined) return;
  throw new EngineError(
    'BAD_ARGUMENT',
    `slots is ${tooFew}, but a token of ${name} uses up to ${expertsPerToken} experts in a layer; ` +
      `give at least ${expertsPerToken}`,
  );
}

function getModelRows(
  traces: readonly PackedTrace[],
  learn: readonly PackedTrace[],
  options: ReplayOptions,
): ReplayRow[] {
  const rows = options.slots.flatMap((slots) =>
    options.policies.flatMap((policy) =>
      options.predictors.map((predictor) => {
        const counters = createCounters();
        for (const trace of traces) replayFile(trace, learn, { policy, predictor, slots }, options, counters);
        return getRow((traces[0] as PackedTrace).header.model, { policy, predictor, slots }, counters);
      }),
    ),
  );
  for (const row of rows) {
    const lru = rows.find((other) => other.policy === 'lru' && other.predictor === 'none' && other.slots === row.slots);
    // Perfect prefetch has no faulting layer.
    if (lru && lru.faultingLayersPerToken > 0) {
      row.gapCaptured = 1 - row.faultingLayersPerToken / lru.faultingLayersPerToken;
    }
  }
  const first = rows[0] as ReplayRow;
  first.localRouting = traces.map((trace) => ({
    trace: trace.name,
    srp: Object.fromEntries(segmentLengths.map((length) => [length, getSegmentRouting([trace], length)])),
    sch: Object.fromEntries(segmentLengths.map((length) => [length, getSegmentCache([trace], length)])),
  }));
  const [only] = first.localRouting;
  if (only && traces.length === 1) {
    first.srp = only.srp[referenceSegment] ?? null;
    first.sch = only.sch[referenceSegment] as number;
  } else {
    first.srp = getSegmentRouting(traces, referenceSegment);
    first.sch = getSegmentCache(traces, referenceSegment);
  }
  return rows;
}

type Combination = Pick<ReplayRow, 'policy' | 'predictor' | 'slots'>;

function replayFile(
  trace: PackedTrace,
  learn: readonly PackedTrace[],
  { policy, predictor, slots }: Combination,
  options: ReplayOptions,
  counters: ReplayCounters,
): void {
  const { expertsPerToken } = trace.header;
  const isOracle = predictor === 'oracle';
  replay(
    {
      trace,
      slots,
      policy: createPolicy(policy, trace, options.seed),
      predictor: isOracle ? createOracle(trace) : predictor === 'none' ? undefined : learnFrom(learn, predictor, trace),
      // What the token will use, all of it, whatever a prediction may name.
      prefetchPages: isOracle ? expertsPerToken : (options.prefetchPages ?? expertsPerToken),
      minProbability: options.minProbability,
    },
    counters,
  );
}

function learnFrom(
  learn: readonly PackedTrace[],
  name: Exclude<PredictorName, 'none' | 'oracle'>,
  { header }: PackedTrace,
): Predictor {
  const predictor = createPredictor(name, header, { looksAhead: false }) as Predictor;
  const scores = new Float32Array(header.layers * header.experts);
  for (const trace of learn) {
    for (let token = 0; token < trace.tokens; token++) {
      const context = getContext(trace, token);
      predictor.predict(context, scores);
      predictor.observe(context, getRoutes(trace, token));
    }
  }
  return predictor;
}

function getRow(model: string, combination: Combination, counters: ReplayCounters): ReplayRow {
  const { tokens, needed } = counters;
  const share = (present: number) => (needed > 0 ? present / needed : 1);
  return {
    ...combination,
    hitRate: share(counters.presentBefore),
    hitRateAfterPrefetch: share(counters.presentAfter),
    faultingLayersPerToken: counters.faultingLayers / tokens,
    uploadsPerToken: {
      demand: counters.demandUploads / tokens,
      useful: counters.usefulUploads / tokens,
      wasted: counters.wastedUploads / tokens,
    },
    recall: counters.recall.getShares(),
    predictorMsPerToken: counters.predictorMs / tokens,
    model,
    tokens,
  };
}
