/** Who wants to hear of something. Owns the order, that of being added; never what is told. */

export class Listeners<T> {
  readonly #told = new Set<(value: T) => void>();

  /** @returns what takes the listener away again */
  add(listener: (value: T) => void): () => void {
    // A function of its own for each call: a listener that is added twice is told twice, and taken away one at a time.
    const told = (value: T): void => listener(value);
    this.#told.add(told);
    return () => void this.#told.delete(told);
  }

  /** An exception of a listener is its own affair: it is reported as uncaught, and the others hear all the same. */
  tell(value: T): void {
    for (const told of [...this.#told]) {
      try {
        told(value);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
