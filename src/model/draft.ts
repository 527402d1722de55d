/**
 * Tokens one after another in one submission, each sampled token the next one's input, and no read-back in between: a draft on the
 * resident experts alone, absent ones left out, or the text itself, up to the first page that is missing. Records commands and
 * writes their script; never submits.
 *
 * A drafted token's keys and values go to the cache places of its position. The exact pass that follows starts at the
 * draft's first position and writes every layer's places before that layer's attention reads them, so nothing of a draft is
 * ever read by an exact row; places behind the last accepted row are written again by whichever pass comes to them.
 */
import { assert } from '../errors';
import type { GpuDevice } from '../gpu/device';
import type { DeviceBuffer } from '../gpu/memory';
import type { Submission } from '../gpu/pass';
import { type EntryPoint, type Forward, START } from './forward';
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
  /** Bytes of one row of logits. */
  readonly logitBytes: number;
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
    const { forward, state } = this.parts;
    const controls = [NO_FAULT, 0, 0, 1, NO_FAULT, 0, runAhead, 0];
    this.#writeScript(tokenId, position, count, [count + 1, position, count + 1, position + 1, ...controls]);
    const controlBytes = CONTROL.nextToken * 4;
    const controlsAt = (count + 1) * SCRIPT_STEP_WORDS * 4;
    submission.copy(state.draftScript, controlsAt, state.control, 0, controlBytes);
    for (let i = 0; i < count; i++) {
      this.#encodeToken(submission, i, START);
      if (isAdjusted) forward.encodeSampleAdjusted(submission, 0);
      else forward.encodeSample(submission, 1);
      this.#encodeRecord(submission, i);
    }
    submission.copy(state.draftTokens, 0, state.tokens, 0, (count + 1) * 4);
    this.#encodeStep(submission, count);
    submission.copy(state.draftScript, controlsAt + controlBytes, state.control, 0, controlBytes);
  }

  /**
   * `tokenId` and `count - 1` tokens behind it, each by an exact pass of its own; what lies behind a fault does nothing. The
   * control words are the caller's.
   * @param from where `tokenId` goes on: with its embedding, or behind a fault of it that has been served.
   * @param logitsAt byte offset in the read-back buffer for the logits, token after token; null: they stay.
   */
  encodeExact(
    submission: Submission,
    from: EntryPoint,
    tokenId: number,
    position: number,
    count: number,
    logitsAt: number | null,
  ): void {
    const { forward, state, logitBytes } = this.parts;
    this.#writeScript(tokenId, position, count, []);
    for (let i = 0; i < count; i++) {
      this.#encodeToken(submission, i, i === 0 ? from : START);
      forward.encodeSample(submission, 1);
      this.#encodeRecord(submission, i);
      submission.copy(state.control, CONTROL.faultLayer * 4, state.tokenFaults, i * 4, 4);
      if (logitsAt === null) continue;
      submission.copy(state.logits, 0, state.readback, logitsAt + i * logitBytes, logitBytes);
    }
  }

  /** @param rest what the script ends with. */
  #writeScript(tokenId: number, position: number, count: number, rest: readonly number[]): void {
    const { device, state } = this.parts;
    assert(count > 0 && count <= MOST_DRAFT_TOKENS, `${count} tokens fit into a script`);
    const steps = Array.from({ length: count }, (_, i) => [1, position + i, 1, position + i + 1]);
    device.handle.queue.writeBuffer(state.draftScript, 0, Uint32Array.from([...steps.flat(), ...rest]));
    device.handle.queue.writeBuffer(state.draftTokens, 0, Uint32Array.of(tokenId));
  }

  /** Up to its logits. */
  #encodeToken(submission: Submission, index: number, from: EntryPoint): void {
    const { forward, state, layers } = this.parts;
    if (from === START) {
      submission.copy(state.draftTokens, index * 4, state.tokens, 0, 4);
      this.#encodeStep(submission, index);
      forward.encodeEmbed(submission, 1);
    }
    forward.encodeLayers(submission, 'rows', from, layers, 1);
    forward.encodeHead(submission, 'rows', 0, 1);
  }

  /** What it sampled is the next one's input. */
  #encodeRecord(submission: Submission, index: number): void {
    const { state, routeBytes } = this.parts;
    submission.copy(state.control, CONTROL.nextToken * 4, state.draftTokens, (index + 1) * 4, 4);
    submission.copy(state.routeIds, 0, state.draftRoutes, index * routeBytes, routeBytes);
  }

  #encodeStep(submission: Submission, index: number): void {
    const { state, step, sampling } = this.parts;
    const at = index * SCRIPT_STEP_WORDS * 4;
    submission.copy(state.draftScript, at, step, 0, 12);
    submission.copy(state.draftScript, at + 12, sampling, SAMPLED_POSITION_BYTES, 4);
  }
}
