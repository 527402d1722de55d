/**
 * Runs one pass over a few tokens to its end: submit, read the record, serve faults, resume.
 * Owns the fault loop; never knows what the tokens are for, nor how pages are forecast.
 */
import { assert } from '../errors';
import type { ExpectedPage } from '../experts/pager';
import { type ReadbackPart, Submission } from '../gpu/pass';
import { encodeWords, type UniformWord } from '../gpu/uniforms';
import { getMaskWord } from '../kernels/adjust-logits';
import type { EntryPoint, PassForm } from '../model/forward';
import { CONTROL, NO_FAULT } from '../model/run-state';
import { encodeLogitChanges, type LogitChanges } from '../sampling/logit-changes';
import { type Runtime, throwIfAborted } from './runtime';

export interface PassRequest {
  /** At most the state's rows. */
  readonly tokenIds: readonly number[];
  /** Position of the first token. */
  readonly position: number;
  /** How many of the last rows get logits; 0 for a prefill chunk that is not the last. */
  readonly logitRows: number;
  /** Words of the sampling uniform: then a token is sampled from every logits row. */
  readonly sampling: readonly UniformWord[] | null;
  /** What is done to the logits of the only logits row before it is sampled from; absent or null: nothing. */
  readonly logitChanges?: LogitChanges | null;
  /** Bring the logits to the CPU. */
  readonly readLogits: boolean;
  /** The tokens are a chunk of known text: enough of them are computed in tiles. Else always row by row. */
  readonly isChunk: boolean;
}

/** How a pass is cut and what runs behind a fault. Touches speed only, never a result. */
export interface PassPlan {
  /** Layers per submission; the layer count or more: the whole pass in one. */
  readonly segmentLayers: number;
  /** 0: nothing runs behind a fault. n: see RUN_AHEAD in shaders/lib/control.wgsl. */
  readonly runAhead: number;
  /** Pages that the layers behind a fault may need. */
  getExpected(fault: FaultRecord): readonly ExpectedPage[];
}

/** What is known when a pass has faulted. */
export interface FaultRecord {
  /** The MoE layer that misses pages. */
  readonly moeLayer: number;
  readonly rows: number;
  /** [moeLayers, rows, expertsPerToken]: exact up to `moeLayer`; behind it what ran ahead chose, if anything did. */
  readonly routes: Uint32Array;
  readonly runAhead: number;
}

export interface PassResult {
  /** Sampled ids, one per logits row; empty without sampling. */
  readonly sampledIds: Uint32Array;
  /** [logitRows, vocab] f32, when asked for. */
  readonly logits: Float32Array | null;
  /** [moeLayers, rows, expertsPerToken]: chosen experts in router order. */
  readonly routes: Uint32Array;
}

export interface PassCounters {
  /** Submissions that were waited for. */
  roundTrips: number;
  submits: number;
  /** Counted by the GPU: layers whose experts were combined, shadows left out. */
  layersExecuted: number;
}

/** A recorded submission that still lacks its read-back, and how far it goes. */
interface Segment {
  readonly submission: Submission;
  readonly from: EntryPoint;
}

/**
 * From this many tokens on, a chunk is computed in tiles, and streams all experts through the slots instead of waiting for its
 * routes. Fewer would leave most of a tile empty, and most experts unused.
 */
const TILED_ROWS = 16;

export class PassRunner {
  counters: PassCounters = createCounters();
  /** Time of one layer of one token, measured on passes without a fault; null until there was one. */
  layerMs: number | null = null;

  constructor(private readonly runtime: Runtime) {}

  resetCounters(): void {
    this.counters = createCounters();
  }

  /** @throws EngineError; after one, the KV cache from `position` on is undefined, everything else is whole. */
  async run(request: PassRequest, plan: PassPlan, signal?: AbortSignal): Promise<PassResult> {
    const { device, manifest, state, pager, forward } = this.runtime;
    const { moeLayers, layers, moe, vocabSize } = manifest.config;
    const rows = request.tokenIds.length;
    const start = performance.now();
    const tripsBefore = this.counters.roundTrips;
    const form: PassForm = request.isChunk && rows >= TILED_ROWS ? 'tiles' : 'rows';
    // A chunk of many tokens needs nearly every expert of a layer: waiting for its routes would save little.
    const isStreamed = form === 'tiles' && pager.getResidentShare() < 1;
    this.#writeInputs(request, isStreamed ? 0 : plan.runAhead);

    const routeWords = moeLayers.length * rows * moe.expertsPerToken;
    const controlWords = CONTROL.nextToken + request.logitRows;
    const logitWords = request.readLogits ? request.logitRows * vocabSize : 0;
    const record: ReadbackPart[] = [
      { source: state.control, offsetBytes: 0, sizeBytes: controlWords * 4 },
      { source: state.routeIds, offsetBytes: 0, sizeBytes: routeWords * 4 },
    ];

    const submission = new Submission(device);
    forward.encodeEmbed(submission, rows);
    let segment: Segment = isStreamed
      ? await this.#streamLayers(submission, rows, signal)
      : { submission, from: { layer: 0, stage: 'attention' } };
    let observedLayers = isStreamed ? moeLayers.length : 0;
    for (;;) {
      // A segment ends behind a router, so that what the next one needs is known. At the experts of a layer its own router
      // is done.
      const { layer, stage } = segment.from;
      const until = layer + plan.segmentLayers - (stage === 'attention' ? 1 : 0);
      const isLast = until >= layers || plan.segmentLayers >= layers;
      forward.encodeLayers(segment.submission, form, segment.from, isLast ? layers : until, rows);
      const parts = [...record];
      if (isLast && request.logitRows > 0) {
        const headForm = request.logitRows >= TILED_ROWS ? form : 'rows';
        forward.encodeHead(segment.submission, headForm, rows - request.logitRows, request.logitRows);
        if (request.logitChanges) forward.encodeSampleAdjusted(segment.submission);
        else if (request.sampling) forward.encodeSample(segment.submission, request.logitRows);
        if (logitWords > 0) parts.push({ source: state.logits, offsetBytes: 0, sizeBytes: logitWords * 4 });
      }
      const bytes = await segment.submission.submitAndRead(parts, state.readback);
      this.counters.submits++;
      this.counters.roundTrips++;
      const control = new Uint32Array(bytes, 0, controlWords);
      const routes = new Uint32Array(bytes, controlWords * 4, routeWords);
      const fault = control[CONTROL.faultLayer] as number;
      const routedLayers = isLast ? moeLayers.length : moeLayers.filter((layer) => layer <= until).length;
      const reached = fault === NO_FAULT ? routedLayers - 1 : fault;
      let missing: number[] = [];
      let needed: number[] = [];
      while (observedLayers <= reached) {
        needed = this.#getNeeded(routes, observedLayers, rows);
        missing = pager.observe(observedLayers, needed);
        assert(
          missing.length === 0 || observedLayers === fault,
          `MoE layer ${observedLayers} is resident, as the GPU found`,
        );
        observedLayers++;
      }
      if (fault !== NO_FAULT) {
        assert(!isStreamed, 'a streamed pass has no fault left');
        throwIfAborted(signal);
        assert(missing.length > 0, `MoE layer ${fault} misses a page, as the GPU found`);
        segment = await this.#serveFault({ moeLayer: fault, rows, routes, runAhead: plan.runAhead }, needed, plan);
      } else if (isLast) {
        this.counters.layersExecuted += control[CONTROL.layersExecuted] as number;
        if (rows === 1 && this.counters.roundTrips === tripsBefore + 1) this.#noteLayerTime(performance.now() - start);
        return {
          sampledIds: control.slice(CONTROL.nextToken),
          logits: logitWords > 0 ? new Float32Array(bytes, (controlWords + routeWords) * 4, logitWords) : null,
          routes,
        };
      } else {
        throwIfAborted(signal);
        segment = { submission: new Submission(device), from: { layer: until, stage: 'experts' } };
      }
    }
  }

  /**
   * Runs up to the last MoE layer's combine step without a read-back: all experts of a layer pass through its slots, the
   * resident ones first.
   */
  async #streamLayers(first: Submission, rows: number, signal: AbortSignal | undefined): Promise<Segment> {
    const { device, manifest, pager, forward } = this.runtime;
    const all = Array.from({ length: manifest.config.moe.experts }, (_, expert) => expert);
    let submission = first;
    let from: EntryPoint = { layer: 0, stage: 'attention' };
    for (const [moeLayer, layer] of manifest.config.moeLayers.entries()) {
      throwIfAborted(signal);
      forward.encodeLayers(submission, 'tiles', from, layer, rows);
      submission.submit();
      this.counters.submits++;
      await this.#runWaves(moeLayer, layer, 'tiles', rows, pager.planWaves(moeLayer, all, []));
      submission = new Submission(device);
      from = { layer, stage: 'combine' };
    }
    return { submission, from };
  }

  #noteLayerTime(passMs: number): void {
    const { roundTripMs, manifest } = this.runtime;
    const sampleMs = Math.max(0, passMs - roundTripMs) / manifest.config.layers;
    this.layerMs = this.layerMs === null ? sampleMs : this.layerMs * 0.9 + sampleMs * 0.1;
  }

  #writeInputs({ tokenIds, position, logitRows, sampling, logitChanges }: PassRequest, runAhead: number): void {
    const { device, plan, state, step, sampling: samplingBuffer } = this.runtime;
    const { queue } = device.handle;
    const rows = tokenIds.length;
    assert(rows > 0 && rows <= plan.state.rows, `${rows} rows fit into a pass of ${plan.state.rows}`);
    assert(logitRows <= Math.min(rows, plan.state.logitRows), `${logitRows} logit rows fit`);
    queue.writeBuffer(state.tokens, 0, Uint32Array.from(tokenIds));
    queue.writeBuffer(step, 0, encodeWords([rows, position, logitRows], 16));
    if (sampling) queue.writeBuffer(samplingBuffer, 0, encodeWords(sampling, 32));
    if (logitChanges) {
      assert(sampling && logitRows === 1, 'changed logits are those of one row that is sampled from');
      const capacity = plan.state.changedLogits;
      queue.writeBuffer(state.logitChanges, 0, encodeLogitChanges(logitChanges, capacity));
      if (logitChanges.mask) queue.writeBuffer(state.logitChanges, getMaskWord(capacity) * 4, logitChanges.mask);
    }
    queue.writeBuffer(state.control, 0, Uint32Array.of(NO_FAULT, 0, runAhead));
  }

  /** Uploads what a layer misses, and what is expected behind it; says where to go on: same kernels, same order. */
  async #serveFault(fault: FaultRecord, needed: readonly number[], plan: PassPlan): Promise<Segment> {
    const { device, manifest, state, pager } = this.runtime;
    const { moeLayer, rows, routes } = fault;
    const layer = manifest.config.moeLayers[moeLayer] as number;
    if (needed.length <= pager.slots) {
      pager.counters.demandBytes += await pager.ensure(moeLayer, needed);
      pager.prefetch(plan.getExpected(fault));
      device.handle.queue.writeBuffer(state.control, 0, Uint32Array.of(NO_FAULT));
      return { submission: new Submission(device), from: { layer, stage: 'experts' } };
    }
    const lastRow = this.#getNeeded(routes, moeLayer, rows, rows - 1);
    await this.#runWaves(moeLayer, layer, 'rows', rows, pager.planWaves(moeLayer, needed, lastRow));
    return { submission: new Submission(device), from: { layer, stage: 'combine' } };
  }

  /**
   * More experts than slots: wave after wave, each with only its own experts in the page table. Outputs are kept apart by
   * (token, rank), so neither the order of the waves nor their size shows in the result.
   */
  async #runWaves(
    moeLayer: number,
    layer: number,
    form: PassForm,
    rows: number,
    waves: readonly number[][],
  ): Promise<void> {
    const { device, state, pager, forward } = this.runtime;
    try {
      for (const wave of waves) {
        pager.counters.demandBytes += await pager.ensure(moeLayer, wave);
        pager.map(moeLayer, wave);
        device.handle.queue.writeBuffer(state.control, 0, Uint32Array.of(NO_FAULT));
        const submission = new Submission(device);
        forward.encodeExperts(submission, form, layer, rows);
        submission.submit();
        this.counters.submits++;
      }
    } finally {
      // Also when a read fails: the next pass has to see every resident page.
      pager.map(moeLayer);
    }
  }

  /** Experts that the rows from `firstRow` chose in a MoE layer, each once, in order of first choice. */
  #getNeeded(routes: Uint32Array, moeLayer: number, rows: number, firstRow = 0): number[] {
    const k = this.runtime.manifest.config.moe.expertsPerToken;
    const start = moeLayer * rows * k;
    return [...new Set(routes.subarray(start + firstRow * k, start + rows * k))];
  }
}

function createCounters(): PassCounters {
  return { roundTrips: 0, submits: 0, layersExecuted: 0 };
}
