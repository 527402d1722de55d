/**
 * Who uses the engine next: conversations take turns, each in the order of its own requests. Owns the waiting; runs nothing.
 */
import { createAbort, throwIfAborted } from '../aborts';

interface Waiting {
  readonly start: () => void;
}

export class TurnQueue {
  /** Waiting requests by conversation; the conversation that is served next comes first. */
  readonly #waiting = new Map<string, Waiting[]>();
  #isTaken = false;

  /**
   * Waits for a turn.
   * @returns what ends it.
   * @throws EngineError `ABORTED` when the signal says so before the turn comes.
   */
  async take(conversation: string, signal?: AbortSignal): Promise<() => void> {
    throwIfAborted(signal);
    if (this.#isTaken) await this.#wait(conversation, signal);
    this.#isTaken = true;
    let ended = false;
    return () => {
      if (!ended) this.#next();
      ended = true;
    };
  }

  #wait(conversation: string, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const own: Waiting = {
        start() {
          signal?.removeEventListener('abort', leave);
          resolve();
        },
      };
      const leave = (): void => {
        const rest = this.#waiting.get(conversation)?.filter((other) => other !== own) ?? [];
        if (rest.length > 0) this.#waiting.set(conversation, rest);
        else this.#waiting.delete(conversation);
        reject(createAbort(signal, 'waiting for its turn'));
      };
      this.#waiting.set(conversation, [...(this.#waiting.get(conversation) ?? []), own]);
      signal?.addEventListener('abort', leave, { once: true });
    });
  }

  #next(): void {
    const [entry] = this.#waiting;
    if (!entry) {
      this.#isTaken = false;
      return;
    }
    const [conversation, [first, ...rest]] = entry;
    // Behind all others that wait: a conversation with many requests does not keep another one waiting.
    this.#waiting.delete(conversation);
    if (rest.length > 0) this.#waiting.set(conversation, rest);
    first?.start();
  }
}
