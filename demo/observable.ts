/** A value that components can follow. Owns the value and its followers; never changes it itself. */
import { useEffect, useState } from 'preact/hooks';

export class Observable<T> {
  #value: T;
  readonly #followers = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  protected set(value: T): void {
    this.#value = value;
    for (const follower of this.#followers) follower();
  }

  /** Calls `follower` after every change, until the returned function is called. */
  follow(follower: () => void): () => void {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }
}

/** The current value; the component renders again when it changes. */
export function useObservable<T>(observable: Observable<T>): T {
  const [value, setValue] = useState(observable.value);
  useEffect(() => {
    const update = () => setValue(() => observable.value);
    update();
    return observable.follow(update);
  }, [observable]);
  return value;
}
