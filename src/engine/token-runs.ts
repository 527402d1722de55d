/**
 * Several tokens by one submission, each sampled one the next one's input: up to the first page that is missing, where the token
 * before has come to its end without the CPU. The token that misses it has begun, and is gone on with when it is asked for.
 * Owns what has begun; what runs is what a token alone runs, in the same order.
 */
import { throwIfAborted } from '../aborts';
import { countAcceptedRows } from '../drafting/acceptance';
import { assert } from '../errors';
import { Submission } from '../gpu/pass';
import { encodeWords } from '../gpu/uniforms';
import { START } from '../model/forward';
import { CONTROL, NO_FAULT } from '../model/run-state';
import type { LayerWaves, Segment } from './layer-waves';
import { observeLayers } from './observed-layers';
import type { FaultRecord, PassCounters, PassPlan, PassRequest, PassResult } from './pass';
import { RecordLayout } from './pass-record';
import type { Runtime } from './runtime';

/** A token that misses a page of a layer: everything before that layer's experts has run. */
interface BegunToken {
  readonly tokenId: number;
  readonly position: number;
  readonly fault: FaultRecord;
  /** Experts of the layer that faulted. */
  readonly needed: readonly number[];
}

/** Uploads what a fault misses, and what is expected behind it; says where to go on. */
export type ServeFault = (begun: Pick<BegunToken, 'fault' | 'needed'>) => Promise<Segment>;

/** What a run leaves to its caller. */
export interface TokenRunResult extends PassResult {
  /** It needed one submission, and no token of it had begun before or faulted. */
  readonly isSmooth: boolean;
}

export class TokenRuns {
  #begun: BegunToken | null = null;

  constructor(
    private readonly runtime: Runtime,
    private readonly waves: LayerWaves,
  ) {}

  /** Whether this token's first layers have run, and it may go on here. */
  hasBegun(tokenId: number, position: number): boolean {
    return this.#begun?.tokenId === tokenId && this.#begun.position === position && mayRunOn(this.runtime);
  }

  /** What has begun is not gone on with: something else runs, or fails. */
  forget(): void {
    this.#begun = null;
  }

  /**
   * Feeds a token and those sampled behind it. The result is as of one pass whose guesses all held; it ends with the last token
   * that came to its end.
   * @param count most tokens.
   */
  async run(
    request: PassRequest,
    count: number,
    plan: PassPlan,
    counters: PassCounters,
    serveFault: ServeFault,
    signal: AbortSignal | undefined,
  ): Promise<TokenRunResult> {
    const { device, state, draft } = this.runtime;
    const { position, readLogits, endIds = new Set() } = request;
    const tokenId = request.tokenIds[0] as number;
    const layout = new RecordLayout(this.runtime, { rows: 0, logitRows: count, draftTokens: count, isRun: true });
    const place = layout.logitsPlace;
    const logitsAt = readLogits ? place.offsetBytes : null;
    let begun = this.hasBegun(tokenId, position) ? this.#begun : null;
    this.#begun = null;
    device.handle.queue.writeBuffer(state.control, 0, Uint32Array.of(NO_FAULT, 0, plan.runAhead, 0));
    for (;;) {
      this.#writeStep(request);
      const segment = begun ? await serveFault(begun) : { submission: new Submission(device), from: START };
      draft.encodeExact(segment.submission, segment.from, tokenId, position, count, logitsAt);
      const placedBytes = readLogits ? place.sizeBytes : 0;
      const bytes = await segment.submission.submitAndRead(layout.getParts(false), state.readback, placedBytes);
      counters.submits++;
      counters.roundTrips++;
      const { control, draftedIds, draftRoutes, tokenFaults, logits } = layout.split(bytes, readLogits);
      const faultedAt = tokenFaults.findIndex((fault) => fault !== NO_FAULT);
      const ended = faultedAt < 0 ? count : faultedAt;
      const tokenIds = draftedIds.slice(0, ended);
      const sampledIds = draftedIds.slice(1, ended + 1);
      const acceptedRows = ended === 0 ? 0 : countAcceptedRows(tokenIds, sampledIds, endIds);
      for (let token = 0; token < acceptedRows; token++) this.#observe(draftRoutes, token, begun, null);
      const next = draftedIds[ended] as number;
      let faulted: BegunToken | null = null;
      if (ended < count && acceptedRows === ended && !(ended > 0 && endIds.has(next))) {
        const moeLayer = tokenFaults[ended] as number;
        const needed = this.#observe(draftRoutes, ended, begun, moeLayer);
        const fault = { moeLayer, rows: 1, routes: this.#getRoutes(draftRoutes, ended), runAhead: plan.runAhead };
        faulted = { tokenId: next, position: position + ended, fault, needed };
        counters.unreachedTokens += count - ended - 1;
      }
      this.waves.restore();
      if (ended > 0) {
        counters.layersExecuted += control[CONTROL.layersExecuted] as number;
        this.#begun = faulted;
        const isSmooth = begun === null && ended === count;
        return { tokenIds, sampledIds, acceptedRows, logits, routes: this.#joinRoutes(draftRoutes, ended), isSmooth };
      }
      throwIfAborted(signal);
      begun = faulted;
    }
  }

  /** Where the given token stands, whatever tokens behind it were told. */
  #writeStep({ position, sampling }: PassRequest): void {
    const { device, step, sampling: samplingBuffer } = this.runtime;
    assert(sampling, 'every token is sampled');
    device.handle.queue.writeBuffer(step, 0, encodeWords([1, position, 1], 16));
    device.handle.queue.writeBuffer(samplingBuffer, 0, encodeWords(sampling, 32));
  }

  /**
   * Tells the pager what a token used.
   * @param begun the given token, where its layers up to the fault that was served are known.
   * @param fault the layer that misses a page; null: none.
   * @returns the experts of the last layer that was observed.
   */
  #observe(draftRoutes: Uint32Array, token: number, begun: BegunToken | null, fault: number | null): number[] {
    const isGiven = token === 0;
    return observeLayers(this.runtime, {
      routes: this.#getRoutes(draftRoutes, token),
      rows: 1,
      first: isGiven && begun ? begun.fault.moeLayer + 1 : 0,
      last: fault ?? this.runtime.manifest.config.moeLayers.length - 1,
      hasFaulted: fault !== null,
      isText: true,
      // No other token of a submission has layers in waves.
      waves: isGiven ? this.waves : null,
    });
  }

  /** [moeLayers, expertsPerToken] of one token. */
  #getRoutes(routes: Uint32Array, token: number): Uint32Array {
    const { moeLayers, moe } = this.runtime.manifest.config;
    const words = moeLayers.length * moe.expertsPerToken;
    return routes.subarray(token * words, (token + 1) * words);
  }

  /** [tokens, moeLayers, expertsPerToken] as [moeLayers, tokens, expertsPerToken]. */
  #joinRoutes(routes: Uint32Array, tokens: number): Uint32Array {
    const { moeLayers, moe } = this.runtime.manifest.config;
    const k = moe.expertsPerToken;
    const joined = new Uint32Array(tokens * moeLayers.length * k);
    for (let token = 0; token < tokens; token++) {
      const own = this.#getRoutes(routes, token);
      for (const layer of moeLayers.keys())
        joined.set(own.subarray(layer * k, (layer + 1) * k), (layer * tokens + token) * k);
    }
    return joined;
  }
}

/** Whether a fault of one token always finds slots for what it misses: else its layer goes in waves, which show other tokens less. */
export function mayRunOn({ pager, manifest }: Runtime): boolean {
  return pager.slots >= manifest.config.moe.expertsPerToken;
}
