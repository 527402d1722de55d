/**
 * Feeds tokens of one sequence through passes, with the forecast that belongs to it: pages before a token, pages behind a
 * fault, what is learnt afterwards. Owns how a pass is cut; never samples nor knows text.
 */
import { getUploadProbability, type PrefetchCosts } from '../experts/prefetch-cost';
import { listChosen } from '../kernels/router-topk';
import type { TokenContext } from '../routing/predictor';
import { getDraftedPages } from './drafted-pages';
import type { TraceEntry } from './engine';
import { type AnswerCounts, type Forecast, splitLayers } from './forecast';
import { getResidency } from './memory-watch';
import type { PassPlan, PassRequest, PassResult } from './pass';
import type { PassRunner } from './pass-runner';
import type { RunCosts } from './run-length';
import type { Runtime } from './runtime';
import { chooseSegmentLayers } from './segment-length';
import { mayRunOn } from './token-runs';

/** Paging options with their defaults. */
export interface ResolvedPaging {
  /** `auto`: what the measured costs make cheapest. */
  readonly segmentLayers: number | 'auto';
  /** `auto`: what the measured costs make cheaper. */
  readonly runAhead: 'full' | 'off' | 'auto';
}

/**
 * From this many layers' time per round trip on, running the whole rest of a token in shadow pays (docs/log.md, "paging policy"); from
 * the lower one on, the experts of the layer that faulted, whose sum the routers behind it are better for ("one layer in shadow").
 */
const FULL_RUN_AHEAD_LAYERS = 6;
const SHORT_RUN_AHEAD_LAYERS = 3;
/** A token's faults count half after this many more. */
const HALF_WEIGHT_TOKENS = 16;

export class Sequence {
  /** Faults per decoded token, lately. */
  #faultsPerToken = 0;
  /** The token before the one that runs next; null before the first. */
  #previousId: number | null = null;

  constructor(
    private readonly runtime: Runtime,
    private readonly runner: PassRunner,
    private readonly forecast: Forecast,
    private readonly paging: ResolvedPaging,
  ) {}

  /**
   * Tokens of the next submission, when nothing is guessed and the GPU alone samples.
   * @param wanted by the caller: `auto`, or so many if there is a use for them.
   * @param most that there is a use for, and that fit.
   */
  chooseTokensPerSubmit(wanted: number | 'auto', most: number): number {
    const { pager, manifest } = this.runtime;
    const { layers } = manifest.config;
    const isWhole = pager.isWhole;
    // The caller wants read-backs within a token, or they are cheaper than what is dead behind a fault.
    if (this.paging.segmentLayers !== 'auto' || !mayRunOn(this.runtime)) return 1;
    if (!isWhole && this.#getSegmentLayers(layers, true, this.#getRunAhead(layers)) < layers) return 1;
    if (wanted !== 'auto') return Math.max(1, Math.min(wanted, most));
    return this.runner.runLength.choose({ most, isWhole, slots: pager.slots }, this.#getRunCosts());
  }

  /** The sequence begins with tokens that are not computed again. */
  skip(tokenIds: readonly number[]): void {
    if (tokenIds.length > 0) this.forecast.push(0, tokenIds);
    this.#previousId = tokenIds.at(-1) ?? null;
  }

  /** Runs a chunk of the prompt, or one token and guesses at what follows it. */
  async run(request: PassRequest, signal?: AbortSignal): Promise<PassResult> {
    const { tokenIds, position, draftTokens = 0 } = request;
    const context: TokenContext = { tokenId: tokenIds[0] as number, position, previousId: this.#previousId };
    const isPaged = !this.runtime.pager.isWhole;
    const isDecoded = tokenIds.length === 1 || !request.isChunk;
    const hasBegun = this.runner.hasBegun(context.tokenId, position);
    const aheadBefore = this.runtime.pager.counters.aheadBytes;
    // Of a decoded token and its guesses the first alone is known to run.
    this.forecast.push(position, isDecoded ? tokenIds.slice(0, 1) : tokenIds);
    if (isPaged && isDecoded) {
      await this.forecast.wait(position);
      const costs = this.#getPrefetchCosts();
      const expected = this.forecast.getExpected(context, getUploadProbability(costs));
      // A token that has begun has a page to wait for, with which others are brought in.
      if (!hasBegun) {
        await this.runtime.pager.readAhead(expected, costs);
        this.runtime.pager.prefetch(expected);
      }
    }
    const plan = this.#getPlan(context, request, tokenIds.length + draftTokens, isPaged);
    const faultsBefore = this.runtime.pager.counters.faultingLayers;
    const { roundTrips, unreachedTokens } = this.runner.counters;
    const forecastBytes = this.runtime.pager.counters.aheadBytes - aheadBefore;
    const startMs = performance.now();
    const result = await this.runner.run(request, plan, signal);
    const faults = this.runtime.pager.counters.faultingLayers - faultsBefore;
    const { tokensPerSubmit: count = 1 } = request;
    if (isDecoded) this.#noteFaults(faults, count > 1 ? result.acceptedRows : 1);
    // A lone token of a run began in another's submission.
    if (isPaged && isDecoded && tokenIds.length + draftTokens === 1 && (count > 1 || !hasBegun)) {
      const made = {
        count,
        ended: result.tokenIds.length,
        faults,
        roundTrips: this.runner.counters.roundTrips - roundTrips,
        unreached: this.runner.counters.unreachedTokens - unreachedTokens,
        forecastPages: forecastBytes / this.runtime.pool.getPageBytes(0),
        passMs: performance.now() - startMs,
      };
      this.runner.runLength.note(made, this.#getRunCosts());
    }
    const accepted = Array.from(result.tokenIds).slice(0, result.acceptedRows);
    if (isDecoded && accepted.length > 1) this.forecast.push(position + 1, accepted.slice(1));
    for (const [row, layers] of splitRows(result.routes, this.#layers, result.tokenIds.length).entries()) {
      if (row >= result.acceptedRows) break;
      const tokenId = result.tokenIds[row] as number;
      this.forecast.observe({ tokenId, position: position + row, previousId: this.#previousId }, layers);
      this.#previousId = tokenId;
    }
    return result;
  }

  /** What the learned predictor answered since `resetCounters`. */
  get answers(): Readonly<AnswerCounts> {
    return this.forecast.answers;
  }

  resetCounters(): void {
    this.forecast.resetAnswers();
  }

  /** What a routing trace notes of some rows of a pass. */
  getTrace(
    { tokenIds, routes }: PassResult,
    phase: TraceEntry['phase'],
    firstRow: number,
    endRow: number,
  ): TraceEntry[] {
    return splitRows(routes, this.#layers, tokenIds.length)
      .map((layers, row) => ({ token: tokenIds[row] as number, phase, routes: layers.map((experts) => [...experts]) }))
      .slice(firstRow, endRow);
  }

  /** [moeLayers, experts]: 0 absent, 1 resident, 2 resident and used by this row of a pass. */
  getResidency({ tokenIds, routes }: PassResult, row: number): Uint8Array {
    const { moe } = this.runtime.manifest.config;
    const pages = getResidency(this.runtime);
    const used = splitRows(routes, this.#layers, tokenIds.length)[row] ?? [];
    for (const [moeLayer, experts] of used.entries()) {
      for (const expert of experts) {
        if (pages[moeLayer * moe.experts + expert] === 1) pages[moeLayer * moe.experts + expert] = 2;
      }
    }
    return pages;
  }

  get #layers(): number {
    return this.runtime.manifest.config.moeLayers.length;
  }

  #getPlan(context: TokenContext, { isChunk }: PassRequest, rows: number, isPaged: boolean): PassPlan {
    const { layers } = this.runtime.manifest.config;
    // Several tokens together miss pages in nearly every layer: waiting for each layer's routes wastes no work behind a fault.
    if (isPaged && rows > 1 && isChunk) return { segmentLayers: 1, runAhead: 0, getExpected: () => [] };
    const runAhead = this.#getRunAhead(layers);
    const costs = this.#getPrefetchCosts();
    const wanted = getUploadProbability(costs);
    return {
      segmentLayers: this.#getSegmentLayers(layers, isPaged, runAhead),
      runAhead,
      costs,
      getExpected: (fault, draftRoutes) =>
        rows > 1
          ? getDraftedPages(fault, draftRoutes, this.#layers)
          : this.forecast.getExpectedBehind(context, fault, wanted),
    };
  }

  #getSegmentLayers(layers: number, isPaged: boolean, runAhead: number): number {
    if (this.paging.segmentLayers !== 'auto') return this.paging.segmentLayers;
    // Without a fault nothing is dead; and what runs in shadow to the end is of use.
    if (!isPaged || runAhead > 1) return layers;
    const { roundTripMs, deadLayerMs } = this.runtime.calibration;
    return chooseSegmentLayers({ layers, roundTripMs, deadLayerMs, faultsPerToken: this.#faultsPerToken });
  }

  #getPrefetchCosts(): PrefetchCosts {
    const { calibration, pool } = this.runtime;
    return {
      faultMs: calibration.roundTripMs,
      uploadMs: pool.getPageBytes(0) / calibration.uploadBytesPerMs,
    };
  }

  #getRunCosts(): RunCosts {
    const { calibration, manifest } = this.runtime;
    const { layers } = manifest.config;
    const { layerMs } = this.runner;
    return {
      tokenMs: layerMs === null ? null : layerMs * layers,
      roundTripMs: calibration.roundTripMs,
      deadTokenMs: calibration.deadLayerMs * layers,
    };
  }

  #noteFaults(faults: number, tokens: number): void {
    const keep = 2 ** (-tokens / HALF_WEIGHT_TOKENS);
    this.#faultsPerToken = this.#faultsPerToken * keep + (faults / tokens) * (1 - keep);
  }

  /** RUN_AHEAD of shaders/lib/control.wgsl: layers + 1 is the whole rest, 1 the routers alone. */
  #getRunAhead(layers: number): number {
    const { runAhead } = this.paging;
    const { layerMs } = this.runner;
    const tripLayers = runAhead === 'auto' && layerMs !== null ? this.runtime.calibration.roundTripMs / layerMs : 0;
    if (runAhead === 'full' || tripLayers > FULL_RUN_AHEAD_LAYERS) return layers + 1;
    if (!this.forecast.looksAhead) return 0;
    return tripLayers > SHORT_RUN_AHEAD_LAYERS ? 2 : 1;
  }
}

/** [layers, rows, k] -> per row, per layer the chosen experts. */
function splitRows(routes: Uint32Array, layers: number, rows: number): Uint32Array[][] {
  const byLayer = splitLayers(routes, layers);
  const k = routes.length / layers / rows;
  return Array.from({ length: rows }, (_, row) =>
    byLayer.map((ids) => listChosen(ids.subarray(row * k, (row + 1) * k))),
  );
}
