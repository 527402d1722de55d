/** Web Locks of one page, for tests. Owns the table of what is held; what waits asks again and again. */
import { setTimeout as wait } from 'node:timers/promises';

interface Held {
  readonly name: string;
  readonly mode: string;
}

export interface LockTable {
  /** Takes the place of `navigator.locks`. */
  readonly locks: Pick<LockManager, 'request'>;
  readonly held: Set<Held>;
}

/** @param patienceMs after which a lock that is not granted is an error: a test should not hang where one is leaked. */
export function createLockTable(patienceMs = 5000): LockTable {
  const held = new Set<Held>();
  const request = async (name: string, options: LockOptions, callback: (lock: Lock | null) => unknown) => {
    const { mode = 'exclusive', ifAvailable = false } = options;
    const isTaken = () =>
      [...held].some((lock) => lock.name === name && (mode === 'exclusive' || lock.mode === 'exclusive'));
    for (const startMs = performance.now(); isTaken(); await wait(1)) {
      if (ifAvailable) return callback(null);
      if (performance.now() - startMs > patienceMs) throw new Error(`${name} was waited for in vain`);
    }
    const lock = { name, mode };
    held.add(lock);
    try {
      return await callback(lock);
    } finally {
      held.delete(lock);
    }
  };
  return { locks: { request: request as LockManager['request'] }, held };
}
