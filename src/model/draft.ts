/**
 * Tokens one after another in one submission, each sampled token the next one's input, and no read-back in between: a draft on the
 * resident experts alone, absent ones left out, or where all are resident the text itself. Records commands and writes their
 * script; never submits.
 *
 * A drafted token's keys and values go to the cache places of its position. The exact pass that follows starts at the
 * draft's first position and writes every layer's places before that layer's attention reads them, so nothing of a draft is
 * ever read by an exact row; places behind the last accepted row are written again by whichever pass comes to them.
 */
import { assert } from '../errors';
import type { GpuDevice } from '../gpu/device';
import type { DeviceBuffer } from '../gpu/memory';
import type { Submission } from '../gpu/pass';
import type { Forward } from './forward';
import { CONTROL, MOST_DRAFT_TOKENS, NO_FAULT, type RunState, SCRIPT_STEP_WORDS } from './run-state';

/** Byte offset of `position` in the sampling uniform; see shaders/sample_token.wgsl. */
const SAMPLED_POSITION_BYTES = 20;

export interface DraftParts {
  readonly device: GpuDevice;
  readonly forward: Forward;
  readonly state: RunState;
  readonly step: DeviceBuffer;
  readonly sampling: DeviceBuffer;
  readonly layers: number;
  /** Bytes of one token's routes: [moeLayers, expertsPerToken] u32. */
  readonly routeBytes: number;
}

export class Draft {
  constructor(private readonly parts: DraftParts) {}

  /**
   * `count` drafted tokens behind `tokenId`, then everything as the exact pass over all of them needs it: its tokens, step,
   * sampling position and control words.
   * @param position of `tokenId`.
   * @param runAhead of the exact pass.
   * @param isAdjusted whether tokens are drawn from logits changed as `state.logitChanges` says: for all alike, since what
   * follows from a drafted token is not known to the CPU. A draft need not be right.
   */
  encode(
    submission: Submission,
    tokenId: number,
    position: number,
    count: number,
    runAhead: number,
    isAdjusted: boolean,
  ): void {
    const { state } = this.parts;
    this.#encodeTokens(submission, tokenId, position, count, [NO_FAULT, 0, 0, 1, NO_FAULT, 0, runAhead, 0], isAdjusted);
    submission.copy(state.draftTokens, 0, state.tokens, 0, (count + 1) * 4);
    this.#encodeStep(submission, count);
    const controlBytes = CONTROL.nextToken * 4;
    const controlsAt = (count + 1) * SCRIPT_STEP_WORDS * 4;
    submission.copy(state.draftScript, controlsAt + controlBytes, state.control, 0, controlBytes);
  }

  /** `count` tokens behind `tokenId`, each by an exact pass of its own: every page is resident. */
  encodeExact(submission: Submission, tokenId: number, position: number, count: number): void {
    this.#encodeTokens(submission, tokenId, position, count, [NO_FAULT, 0, 0, 0], false);
  }

  /** @param controls words that the control buffer starts with, and what else the script ends with. */
  #encodeTokens(
    submission: Submission,
    tokenId: number,
    position: number,
    count: number,
    controls: readonly number[],
    isAdjusted: boolean,
  ): void {
    const { device, forward, state, layers, routeBytes } = this.parts;
    assert(count > 0 && count <= MOST_DRAFT_TOKENS, `${count} tokens fit into a script`);
    const { queue } = device.handle;
    const steps = Array.from({ length: count }, (_, i) => [1, position + i, 1, position + i + 1]);
    const script = [...steps.flat(), count + 1, position, count + 1, position + 1, ...controls];
    queue.writeBuffer(state.draftScript, 0, Uint32Array.from(script));
    queue.writeBuffer(state.draftTokens, 0, Uint32Array.of(tokenId));

    const controlBytes = CONTROL.nextToken * 4;
    const controlsAt = (count + 1) * SCRIPT_STEP_WORDS * 4;
    submission.copy(state.draftScript, controlsAt, state.control, 0, controlBytes);
    for (let i = 0; i < count; i++) {
      submission.copy(state.draftTokens, i * 4, state.tokens, 0, 4);
      this.#encodeStep(submission, i);
      forward.encodeEmbed(submission, 1);
      forward.encodeLayers(submission, 'rows', { layer: 0, stage: 'attention' }, layers, 1);
      forward.encodeHead(submission, 'rows', 0, 1);
      if (isAdjusted) forward.encodeSampleAdjusted(submission, 0);
      else forward.encodeSample(submission, 1);
      submission.copy(state.control, controlBytes, state.draftTokens, (i + 1) * 4, 4);
      submission.copy(state.routeIds, 0, state.draftRoutes, i * routeBytes, routeBytes);
    }
  }

  #encodeStep(submission: Submission, index: number): void {
    const { state, step, sampling } = this.parts;
    const at = index * SCRIPT_STEP_WORDS * 4;
    submission.copy(state.draftScript, at, step, 0, 12);
    submission.copy(state.draftScript, at + 12, sampling, SAMPLED_POSITION_BYTES, 4);
  }
}
