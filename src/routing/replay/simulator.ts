/**
 * One trace through one policy and one predictor, by CONTRACT's rules: a layer's set for one token is one event.
 * Owns the counters; the policy ranks pages, the predictor scores them.
 */
import type { Predictor } from '../predictor';
import type { TokenRoutes } from '../token-routes';
import { selectTop } from '../top-scores';
import { LayerCaches } from './layer-caches';
import { getContext, getRoutes, type PackedTrace } from './packed-trace';
import type { ReplayPolicy } from './policies';
import { RecallCounter } from './recall';

export interface ReplayCounters {
  tokens: number;
  /** Experts that tokens used. */
  needed: number;
  /** Of these, present before any prefetch for their token, and present when the layer ran. */
  presentBefore: number;
  presentAfter: number;
  faultingLayers: number;
  demandUploads: number;
  /** Prefetched pages that a token used before they were evicted. */
  usefulUploads: number;
  /** Prefetched pages that none used, those that wait at the end of the file among them. */
  wastedUploads: number;
  predictorMs: number;
  readonly recall: RecallCounter;
}

export function createCounters(): ReplayCounters {
  return {
    tokens: 0,
    needed: 0,
    presentBefore: 0,
    presentAfter: 0,
    faultingLayers: 0,
    demandUploads: 0,
    usefulUploads: 0,
    wastedUploads: 0,
    predictorMs: 0,
    recall: new RecallCounter(),
  };
}

export interface ReplayRun {
  readonly trace: PackedTrace;
  /** Slots per layer, at least the trace's experts per token. */
  readonly slots: number;
  readonly policy: ReplayPolicy;
  /** Without one nothing is prefetched. */
  readonly predictor: Predictor | undefined;
  /** Pages per layer that one prediction names at most; those that are present need no upload. */
  readonly prefetchPages: number;
  /** Pages below this probability are not prefetched. */
  readonly minProbability: number;
}

/** Replays the whole trace and adds to `counters`. */
export function replay(run: ReplayRun, counters: ReplayCounters): void {
  new Replay(run, counters).run();
}

class Replay {
  readonly #caches: LayerCaches;
  readonly #scores: Float32Array;
  readonly #top: Int32Array;
  readonly #recallSizes: readonly number[];

  constructor(
    private readonly params: ReplayRun,
    private readonly counters: ReplayCounters,
  ) {
    const { layers, experts, expertsPerToken } = params.trace.header;
    this.#caches = new LayerCaches(layers, experts, params.slots, params.policy, counters);
    this.#scores = new Float32Array(layers * experts);
    this.#recallSizes = [expertsPerToken, 2 * expertsPerToken];
    this.#top = new Int32Array(Math.min(experts, Math.max(2 * expertsPerToken, params.prefetchPages)));
  }

  run(): void {
    const { trace, predictor } = this.params;
    for (let token = 0; token < trace.tokens; token++) {
      const routes = getRoutes(trace, token);
      const context = getContext(trace, token);
      for (let layer = 0; layer < trace.header.layers; layer++) {
        this.counters.presentBefore += this.#caches.countPresent(routes, layer);
      }
      if (predictor) {
        this.#time(() => predictor.predict(context, this.#scores));
        for (let layer = 0; layer < trace.header.layers; layer++) this.#prefetch(routes, token, layer, 0);
      }
      for (let layer = 0; layer < trace.header.layers; layer++) {
        this.counters.needed += routes.getStart(layer + 1) - routes.getStart(layer);
        const misses = this.#caches.runEvent(routes, token, layer);
        if (misses === 0) continue;
        this.counters.faultingLayers++;
        if (!predictor) continue;
        const written = this.#time(() => predictor.predictBehind(context, routes, layer, this.#scores));
        for (let distance = 1; distance <= written; distance++) {
          this.#prefetch(routes, token, layer + distance, distance);
        }
      }
      if (predictor) this.#time(() => predictor.observe(context, routes));
    }
    this.counters.tokens += trace.tokens;
    this.#caches.finish();
  }

  #time<T>(work: () => T): T {
    const start = performance.now();
    const result = work();
    this.counters.predictorMs += performance.now() - start;
    return result;
  }

  /** Acts on the scores of a layer. `distance` 0: before the token; else layers behind the fault. */
  #prefetch(routes: TokenRoutes, token: number, layer: number, distance: number): void {
    const { trace, prefetchPages, minProbability } = this.params;
    const { experts } = trace.header;
    const found = selectTop(this.#scores, layer * experts, experts, this.#top.length, this.#top);
    this.counters.recall.note(routes, layer, distance, this.#top, found, this.#recallSizes);
    let count = Math.min(found, prefetchPages);
    while (count > 0 && (this.#scores[layer * experts + (this.#top[count - 1] as number)] as number) < minProbability) {
      count--;
    }
    this.#caches.prefetch(token, layer, this.#top, count);
  }
}
