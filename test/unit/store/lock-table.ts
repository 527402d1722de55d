/** Web Locks of one page, for tests: what would wait for ever is an error at once. Owns the table of what is held. */
interface Held {
  readonly name: string;
  readonly mode: string;
}

export interface LockTable {
  /** Takes the place of `navigator.locks`. */
  readonly locks: Pick<LockManager, 'request'>;
  readonly held: Set<Held>;
}

export function createLockTable(): LockTable {
  const held = new Set<Held>();
  const request = async (name: string, options: LockOptions, callback: (lock: Lock | null) => unknown) => {
    const { mode = 'exclusive', ifAvailable = false } = options;
    const isTaken = [...held].some((lock) => lock.name === name && (mode === 'exclusive' || lock.mode === 'exclusive'));
    if (isTaken && ifAvailable) return callback(null);
    if (isTaken) throw new Error(`${name} is held, and would be waited for`);
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
