/**
 * Goes on when the GPU device is lost: has a new one made and computes what was lost again, so that the caller sees the same
 * tokens. Owns how often that is tried, and when an answer cannot go on; never knows how a device or a runtime is made.
 *
 * A generation is a pure function of its request and of the form that its device computes in (docs/numerics.md): run again from
 * its first prompt chunk it makes the same events, of which those that the caller has are left out.
 */
import { throwIfAborted } from '../aborts';
import { EngineError } from '../errors';
import { pause } from '../store/pause';
import type { GenerateEvent } from './engine';

/** From this loss on within one call, a new device gets half of the slots: memory may be what is short. */
const SHRINK_FROM = 3;
/** So many losses within one call are no accident. */
const MOST_LOSSES = 5;

export interface LossHandler {
  /** Why the device in use is gone, or undefined; waits a moment for the news to arrive. */
  readLoss(): Promise<EngineError | undefined>;
  /**
   * Has a new device made, unless another call has by now.
   * @param shrink gives the experts half of their slots, but never fewer than a token needs.
   * @returns how the new device computes in another form than the lost one, for people; null: it gives the same bits.
   * @throws EngineError `ABORTED` soon after the signal.
   */
  restore(shrink: boolean, signal?: AbortSignal): Promise<string | null>;
}

/**
 * Runs `attempt` again, after every loss of the device, until it ends.
 * @throws EngineError its own, `DEVICE_LOST` when the device does not stay, and `ABORTED`.
 */
export async function retryThroughLosses<T>(
  handler: LossHandler,
  attempt: () => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  for (let losses = 1; ; losses++) {
    try {
      return await attempt();
    } catch (error) {
      await recover(handler, losses, error, signal);
    }
  }
}

/**
 * The same for a stream of events: `start` begins it anew.
 * @throws EngineError `DEVICE_LOST` also where the caller has tokens that the new device might not have given.
 */
export async function* streamThroughLosses(
  handler: LossHandler,
  start: () => AsyncIterable<GenerateEvent>,
  signal?: AbortSignal,
): AsyncGenerator<GenerateEvent, void, undefined> {
  const tokenIds: number[] = [];
  /** Tokens of the prompt that the caller knows of; other events that it has. */
  let prefilled = 0;
  let given = 0;
  let mixed: EngineError | null = null;
  for (let losses = 1; ; losses++) {
    try {
      let at = 0;
      let token = 0;
      for await (const event of start()) {
        // By what they say and not by their number: what the lost device had kept of the prompt is computed in chunks now.
        if (event.type === 'prefill') {
          if (event.done <= prefilled) continue;
          prefilled = event.done;
          yield event;
          continue;
        }
        if (event.type === 'token') {
          const before = tokenIds[token];
          // A driver that was updated, which loses the device, may compile the same kernels to other sums.
          if (before !== undefined && before !== event.tokenId) {
            mixed = createMixedError(`the new device gives token ${event.tokenId} for ${before}`, tokenIds.length);
            throw mixed;
          }
          tokenIds[token++] = event.tokenId;
        }
        if (at++ < given) continue;
        given++;
        yield event;
      }
      return;
    } catch (error) {
      if (error === mixed) throw error;
      const { loss, change } = await recover(handler, losses, error, signal);
      if (change && given > 0) throw createMixedError(`${loss.message}; the new device is ${change}`, tokenIds.length);
      const opened = change ? `a new device was opened, ${change},` : 'a new device was opened';
      yield { type: 'warning', message: `${loss.message}; ${opened} and ${tokenIds.length} tokens are computed again` };
    }
  }
}

/** An answer is of one form: what was given cannot be taken back, and its rest would not be that answer's. */
function createMixedError(what: string, givenTokens: number): EngineError {
  return new EngineError(
    'DEVICE_LOST',
    `${what}; ${givenTokens} tokens of the answer are of a device whose last bits may be others, so it ends here: ask again`,
  );
}

/** How long to wait for a GPU that is not there yet: its process may be starting again. */
const REBUILD_WAITS_MS = [100, 400, 1600, 4000] as const;

/**
 * Makes something on a new device, again when that one is lost before it is done.
 * @throws EngineError what the last try threw, and `ABORTED`.
 */
export async function buildThroughLosses<T>(build: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  for (const waitMs of REBUILD_WAITS_MS) {
    try {
      return await build();
    } catch (error) {
      if (!(error instanceof EngineError) || !['DEVICE_LOST', 'NO_WEBGPU'].includes(error.code)) throw error;
      await pause(waitMs, signal);
      throwIfAborted(signal, 'opening a GPU device');
    }
  }
  return build();
}

/** Recovers from a loss; throws the error when there was none. */
async function recover(
  handler: LossHandler,
  losses: number,
  error: unknown,
  signal: AbortSignal | undefined,
): Promise<{ readonly loss: EngineError; readonly change: string | null }> {
  const isAbort = error instanceof EngineError && error.code === 'ABORTED';
  const loss = isAbort ? undefined : await handler.readLoss();
  if (!loss) throw error;
  if (losses >= MOST_LOSSES) {
    const message = `${loss.message}; ${losses} devices were lost in one call, no more are tried: lower the expert budget or restart the browser`;
    throw new EngineError('DEVICE_LOST', message, { cause: error });
  }
  return { loss, change: await handler.restore(losses >= SHRINK_FROM, signal) };
}
