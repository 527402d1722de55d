/**
 * Runs one pass over a few tokens to its end: submit, read the record, serve faults, resume.
 * Owns the fault loop; never knows what the tokens are for.
 */
import { assert } from '../errors';
import { type ReadbackPart, Submission } from '../gpu/pass';
import { encodeWords, type UniformWord } from '../gpu/uniforms';
import type { EntryPoint } from '../model/forward';
import { CONTROL, NO_FAULT } from '../model/run-state';
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
  /** Bring the logits to the CPU. */
  readonly readLogits: boolean;
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
  /** Counted by the GPU: layers whose experts were combined. */
  layersExecuted: number;
}

export class PassRunner {
  counters: PassCounters = createCounters();

  constructor(private readonly runtime: Runtime) {}

  resetCounters(): void {
    this.counters = createCounters();
  }

  /** @throws EngineError; after one, the KV cache from `position` on is undefined, everything else is whole. */
  async run(request: PassRequest, signal?: AbortSignal): Promise<PassResult> {
    const { device, manifest, plan, state, step, sampling, forward } = this.runtime;
    const { queue } = device.handle;
    const rows = request.tokenIds.length;
    assert(rows > 0 && rows <= plan.state.rows, `${rows} rows fit into a pass of ${plan.state.rows}`);
    assert(request.logitRows <= Math.min(rows, plan.state.logitRows), `${request.logitRows} logit rows fit`);

    queue.writeBuffer(state.tokens, 0, Uint32Array.from(request.tokenIds));
    queue.writeBuffer(step, 0, encodeWords([rows, request.position], 16));
    if (request.sampling) queue.writeBuffer(sampling, 0, encodeWords(request.sampling, 32));
    queue.writeBuffer(state.control, 0, Uint32Array.of(NO_FAULT, 0));

    const moeLayers = manifest.config.moeLayers;
    const routeWords = moeLayers.length * rows * manifest.config.moe.expertsPerToken;
    const controlWords = CONTROL.nextToken + request.logitRows;
    const parts: ReadbackPart[] = [
      { source: state.control, offsetBytes: 0, sizeBytes: controlWords * 4 },
      { source: state.routeIds, offsetBytes: 0, sizeBytes: routeWords * 4 },
    ];
    const logitWords = request.readLogits ? request.logitRows * manifest.config.vocabSize : 0;
    if (logitWords > 0) parts.push({ source: state.logits, offsetBytes: 0, sizeBytes: logitWords * 4 });

    const submission = new Submission(device);
    forward.encodeEmbed(submission, rows);
    let next = { submission, from: { layer: 0, stage: 'attention' } as EntryPoint };
    let observedLayers = 0;
    for (;;) {
      forward.encodeLayers(next.submission, next.from, rows);
      if (request.logitRows > 0) {
        forward.encodeHead(next.submission, rows - request.logitRows, request.logitRows);
        if (request.sampling) forward.encodeSample(next.submission, request.logitRows);
      }
      const bytes = await next.submission.submitAndRead(parts, state.readback);
      this.counters.submits++;
      this.counters.roundTrips++;
      const control = new Uint32Array(bytes, 0, controlWords);
      const routes = new Uint32Array(bytes, controlWords * 4, routeWords);
      const fault = control[CONTROL.faultLayer] as number;
      const reached = fault === NO_FAULT ? moeLayers.length - 1 : fault;
      let missing: number[] = [];
      let needed: number[] = [];
      while (observedLayers <= reached) {
        needed = this.#getNeeded(routes, observedLayers, rows);
        missing = this.runtime.pager.observe(observedLayers, needed);
        assert(
          missing.length === 0 || observedLayers === fault,
          `MoE layer ${observedLayers} was resident, as the GPU found`,
        );
        observedLayers++;
      }
      if (fault === NO_FAULT) {
        this.counters.layersExecuted += control[CONTROL.layersExecuted] as number;
        return {
          sampledIds: control.slice(CONTROL.nextToken),
          logits: logitWords > 0 ? new Float32Array(bytes, (controlWords + routeWords) * 4, logitWords) : null,
          routes,
        };
      }
      throwIfAborted(signal);
      assert(missing.length > 0, `MoE layer ${fault} misses a page, as the GPU found`);
      next = await this.#serveFault(fault, needed, routes, rows);
    }
  }

  /** Uploads what a layer misses and says where to go on: the same kernels in the same order. */
  async #serveFault(
    fault: number,
    needed: readonly number[],
    routes: Uint32Array,
    rows: number,
  ): Promise<{ submission: Submission; from: EntryPoint }> {
    const { device, manifest, state, pager, forward } = this.runtime;
    const layer = manifest.config.moeLayers[fault] as number;
    const clearFault = (): void => device.handle.queue.writeBuffer(state.control, 0, Uint32Array.of(NO_FAULT));
    if (needed.length <= pager.slots) {
      pager.counters.demandBytes += await pager.ensure(fault, needed);
      clearFault();
      return { submission: new Submission(device), from: { layer, stage: 'experts' } };
    }
    // More experts than slots: wave after wave, each with only its own experts in the page table. Outputs are kept apart by
    // (token, rank), so the order of the waves does not show in the result.
    const lastRow = this.#getNeeded(routes, fault, rows, rows - 1);
    for (const wave of pager.planWaves(fault, needed, lastRow)) {
      pager.counters.demandBytes += await pager.ensure(fault, wave);
      pager.map(fault, wave);
      clearFault();
      const submission = new Submission(device);
      forward.encodeExperts(submission, layer, rows);
      submission.submit();
      this.counters.submits++;
    }
    pager.map(fault);
    return { submission: new Submission(device), from: { layer, stage: 'combine' } };
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
