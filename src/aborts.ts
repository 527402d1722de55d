/** What a caller's AbortSignal comes to: one error, thrown at a convenient place or out of waiting. */
import { EngineError } from './errors';

/** @param what that was aborted, where its name helps: "reading "model.gguf"". */
export function createAbort(signal: AbortSignal | undefined, what?: string): EngineError {
  const message = `${what === undefined ? '' : `${what} was `}aborted by the caller`;
  return new EngineError('ABORTED', message, { cause: signal?.reason });
}

/** @throws EngineError `ABORTED` when the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined, what?: string): void {
  if (signal?.aborted) throw createAbort(signal, what);
}

/** What the promise gives, unless the signal fires before: then `ABORTED`, whatever becomes of the promise. */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  let abort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(createAbort(signal));
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
  try {
    return await Promise.race([aborted, promise]);
  } finally {
    signal.removeEventListener('abort', abort);
    // The one that lost may still fail.
    promise.catch(() => {});
    aborted.catch(() => {});
  }
}

/** Resolves with null when the signal aborts: for work that an abort ends without an error. */
export function whenAborted(signal: AbortSignal): Promise<null> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(null);
    else signal.addEventListener('abort', () => resolve(null), { once: true });
  });
}
