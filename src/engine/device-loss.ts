/**
 * Goes on when the GPU device is lost: has a new one made and computes what was lost again, so that the caller sees the same
 * tokens. Owns how often that is tried; never knows how a device or a runtime is made.
 *
 * A generation is a pure function of its request (docs/numerics.md): run again from its first prompt chunk it makes the same
 * events, of which those that the caller has are left out.
 */
import { assert, EngineError } from '../errors';
import type { GenerateEvent } from './engine';

/** From this loss on within one call, a new device gets half of the slots: memory may be what is short. */
const SHRINK_FROM = 3;
/** So many losses within one call are no accident. */
const MOST_LOSSES = 5;

export interface LossHandler {
  /** Why the device in use is gone, or undefined; waits a moment for the news to arrive. */
  readLoss(): Promise<EngineError | undefined>;
  /**
   * Has a new device made.
   * @param shrink gives the experts half of their slots, but never fewer than a token needs.
   */
  restore(shrink: boolean): Promise<void>;
}

/**
 * Runs `attempt` again, after every loss of the device, until it ends.
 * @throws EngineError its own, and `DEVICE_LOST` when the device does not stay.
 */
export async function retryThroughLosses<T>(handler: LossHandler, attempt: () => Promise<T>): Promise<T> {
  for (let losses = 1; ; losses++) {
    try {
      return await attempt();
    } catch (error) {
      await recover(handler, losses, error);
    }
  }
}

/** The same for a stream of events: `start` begins it anew. */
export async function* streamThroughLosses(
  handler: LossHandler,
  start: () => AsyncIterable<GenerateEvent>,
): AsyncGenerator<GenerateEvent, void, undefined> {
  const tokenIds: number[] = [];
  /** Tokens of the prompt that the caller knows of; other events that it has. */
  let prefilled = 0;
  let given = 0;
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
          assert(before === undefined || before === event.tokenId, `token ${token} is the same on a new device`);
          tokenIds[token++] = event.tokenId;
        }
        if (at++ < given) continue;
        given++;
        yield event;
      }
      return;
    } catch (error) {
      const loss = await recover(handler, losses, error);
      const message = `${loss.message}; a new device was opened and ${tokenIds.length} tokens are computed again`;
      yield { type: 'warning', message };
    }
  }
}

/** How long to wait for a GPU that is not there yet: its process may be starting again. */
const REBUILD_WAITS_MS = [100, 400, 1600, 4000] as const;

/** Makes something on a new device, again when that one is lost before it is done. */
export async function buildThroughLosses<T>(build: () => Promise<T>): Promise<T> {
  for (const waitMs of REBUILD_WAITS_MS) {
    try {
      return await build();
    } catch (error) {
      if (!(error instanceof EngineError) || !['DEVICE_LOST', 'NO_WEBGPU'].includes(error.code)) throw error;
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
  }
  return build();
}

/** Returns the loss that was recovered from; throws the error when there was none. */
async function recover(handler: LossHandler, losses: number, error: unknown): Promise<EngineError> {
  const isAbort = error instanceof EngineError && error.code === 'ABORTED';
  const loss = isAbort ? undefined : await handler.readLoss();
  if (!loss) throw error;
  if (losses >= MOST_LOSSES) {
    const message = `${loss.message}; ${losses} devices were lost in one call, no more are tried: lower the expert budget or restart the browser`;
    throw new EngineError('DEVICE_LOST', message, { cause: error });
  }
  await handler.restore(losses >= SHRINK_FROM);
  return loss;
}
