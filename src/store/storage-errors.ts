/**
 * What browser storage throws, as coded errors with a remedy.
 * Never retries and never decides what is written.
 */
import { EngineError } from '../errors';

/**
 * The coded error for a failure of browser storage; one that is coded already passes unchanged.
 * @param what what was being done, for the message.
 * @param remedy what the user can do, unless the storage is full.
 */
export async function toStorageError(
  error: unknown,
  what: string,
  remedy = 'reload the page, or remove the model and install it again',
): Promise<EngineError> {
  if (error instanceof EngineError) return error;
  const known = error instanceof Error || error instanceof DOMException;
  if (known && error.name === 'QuotaExceededError') {
    return new EngineError(
      'STORAGE_FULL',
      `${what}: browser storage is full (${await readUsage()}); ` +
        'remove another installed model or free disk space, then try again',
      { cause: error },
    );
  }
  const reason = known ? `${error.name}: ${error.message}` : String(error);
  return new EngineError('STORAGE', `${what} failed (${reason}); ${remedy}`, { cause: error });
}

/** Whether a store failed, and not what it was used for. */
export function isStorageError(error: unknown): error is EngineError {
  return error instanceof EngineError && (error.code === 'STORAGE' || error.code === 'STORAGE_FULL');
}

/** Whether a store has no room for what was to be written. */
export function isStorageFull(error: unknown): error is EngineError {
  return error instanceof EngineError && error.code === 'STORAGE_FULL';
}

/** The browser's estimate, for people only: it is not the limit that writes meet (Chromium reports usage + 10 GiB). */
async function readUsage(): Promise<string> {
  try {
    const { usage, quota } = await navigator.storage.estimate();
    return `used ${usage} of an estimated quota of ${quota} bytes`;
  } catch {
    return 'usage and quota unknown';
  }
}

/** The error for a record that a store does not have. */
export function missingRecord(modelId: string, key: string): EngineError {
  return new EngineError(
    'STORAGE',
    `record "${key}" of model ${modelId} is not in the store; remove the model and install it again`,
  );
}
