/**
 * One connection to an IndexedDB database: opening it within a time limit, opening it again after the browser closed
 * it, and transactions with a durability. Knows nothing of models.
 */
import type { UseStore } from 'idb-keyval';
import { EngineError } from '../errors';
import { toStorageError } from './storage-errors';

export interface ConnectionOptions {
  /** How long opening may take. Default 10 s; it waits for as long as another tab deletes or blocks the database. */
  readonly openTimeoutMs?: number | undefined;
}

export interface Connection {
  /** An object store for idb-keyval's functions. */
  getStore(storeName: string, durability: IDBTransactionDurability): UseStore;
  /** Ends the connection for good: every later use is an error. */
  close(): void;
}

/** Raised when an object store joins; the upgrade creates what is missing. */
const DATABASE_VERSION = 2;
const DEFAULT_OPEN_TIMEOUT_MS = 10_000;

/** @throws EngineError `STORAGE` when there is no IndexedDB, or it is refused, blocked, or of a newer version. */
export async function openConnection(
  databaseName: string,
  storeNames: readonly string[],
  options: ConnectionOptions = {},
): Promise<Connection> {
  const openTimeoutMs = options.openTimeoutMs ?? DEFAULT_OPEN_TIMEOUT_MS;
  let opening: Promise<IDBDatabase> | undefined;
  let closed = false;

  const ensureOpen = (): Promise<IDBDatabase> => {
    if (closed) {
      const message = `the connection to database "${databaseName}" is closed; open the store again`;
      return Promise.reject(new EngineError('STORAGE', message));
    }
    if (opening) return opening;
    const forget = () => {
      if (opening === current) opening = undefined;
    };
    const current = openDatabase(databaseName, storeNames, openTimeoutMs, forget);
    opening = current;
    current.catch(forget);
    return current;
  };

  await ensureOpen();
  return {
    getStore(storeName, durability) {
      return async (mode, callback) => {
        const current = ensureOpen();
        const database = await current;
        try {
          return await runTransaction(database, storeName, mode, durability, callback);
        } catch (error) {
          // Browsers close connections when they like (Safari in the background, "clear site data", a deleted
          // database): a later transaction throws InvalidStateError, a running one ends with AbortError. What runs
          // here can run again: puts and deletes of the same keys. Once; a second time it is the caller's error.
          if (!isConnectionLost(error)) throw error;
          database.close();
          // Only this connection: of several that lost it together, the first has opened another for all of them.
          if (opening === current) opening = undefined;
          return await runTransaction(await ensureOpen(), storeName, mode, durability, callback);
        }
      };
    },
    close() {
      closed = true;
      opening?.then(
        (database) => database.close(),
        () => undefined,
      );
      opening = undefined;
    },
  };
}

function isConnectionLost(error: unknown): boolean {
  return error instanceof DOMException && (error.name === 'InvalidStateError' || error.name === 'AbortError');
}

/**
 * Runs one transaction and rejects with its real reason: idb-keyval rejects with `transaction.error`, which is still
 * null when the error event of a request bubbles up, and lets a transaction commit half when `put` throws.
 * A callback that writes resolves when the transaction is complete.
 */
async function runTransaction<T>(
  database: IDBDatabase,
  storeName: string,
  mode: IDBTransactionMode,
  durability: IDBTransactionDurability,
  callback: (store: IDBObjectStore) => T | PromiseLike<T>,
): Promise<T> {
  const transaction = database.transaction(storeName, mode, { durability });
  let requestError: DOMException | null = null;
  transaction.addEventListener('error', (event) => {
    requestError ??= (event.target as IDBRequest).error;
  });
  const ended = new Promise<void>((resolve) => {
    transaction.addEventListener('complete', () => resolve());
    transaction.addEventListener('abort', () => resolve());
  });
  try {
    return await callback(transaction.objectStore(storeName));
  } catch (error) {
    // kept now: an abort fails the remaining requests with AbortError
    const reason = requestError ?? error;
    try {
      transaction.abort();
    } catch {
      // has ended already
    }
    await ended;
    throw transaction.error ?? reason ?? new DOMException('the transaction ended without a reason', 'AbortError');
  }
}

function openDatabase(
  databaseName: string,
  storeNames: readonly string[],
  timeoutMs: number,
  onClosed: () => void,
): Promise<IDBDatabase> {
  const what = `opening database "${databaseName}"`;
  return new Promise((resolve, reject) => {
    if (typeof indexedDB === 'undefined') {
      const message = `${what}: this environment has no IndexedDB; use the memory store`;
      reject(new EngineError('STORAGE', message));
      return;
    }
    let settled = false;
    const refuse = (error: EngineError) => {
      settled = true;
      clearTimeout(timer);
      reject(error);
    };
    const fail = (error: unknown) => {
      void toStorageError(error, what, 'allow this site to store data, or use the memory store').then(refuse);
    };
    const refuseBlocked = (reason: string) =>
      refuse(new EngineError('STORAGE', `${what}: ${reason}; close the other tabs of this site and reload`));
    const timer = setTimeout(
      () => refuseBlocked(`no answer within ${timeoutMs / 1000} s, another tab may be deleting it`),
      timeoutMs,
    );
    let request: IDBOpenDBRequest;
    try {
      request = indexedDB.open(databaseName, DATABASE_VERSION);
    } catch (error) {
      // SecurityError: storage is blocked for this site, or the frame has no origin
      fail(error);
      return;
    }
    request.onupgradeneeded = () => {
      for (const name of storeNames) {
        if (!request.result.objectStoreNames.contains(name)) request.result.createObjectStore(name);
      }
    };
    request.onblocked = () => refuseBlocked('another tab holds an older version of it open');
    request.onerror = () => fail(request.error);
    request.onsuccess = () => {
      const database = request.result;
      if (settled) {
        database.close();
        return;
      }
      settled = true;
      clearTimeout(timer);
      // another tab deletes or upgrades the database: holding on would block it
      database.onversionchange = () => {
        database.close();
        onClosed();
      };
      database.onclose = onClosed;
      resolve(database);
    };
  });
}
