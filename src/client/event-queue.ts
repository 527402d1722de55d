/**
 * A queue between a callback that pushes and one loop that reads: how pushed events become an AsyncIterable.
 * Owns order and the end of the stream; never slows the pusher down, never drops an event.
 */
export class EventQueue<T> implements AsyncIterable<T> {
  readonly #events: T[] = [];
  #closed = false;
  #error: Error | null = null;
  #wake: (() => void) | null = null;

  push(event: T): void {
    this.#events.push(event);
    this.#wake?.();
  }

  /** Ends the stream after the events so far; with an error, the reader's loop then throws it. */
  close(error?: Error): void {
    this.#closed = true;
    this.#error = error ?? null;
    this.#wake?.();
  }

  /** For one reader. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      while (this.#events.length > 0) yield* this.#events.splice(0);
      if (this.#closed) {
        if (this.#error) throw this.#error;
        return;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
  }
}
