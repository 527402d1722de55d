/** Waiting that an abort ends. Never stops what is waited for. */
import { EngineError } from '../errors';

/** What the promise gives, unless the signal fires before: then `ABORTED`, whatever becomes of the promise. */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  let abort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(new EngineError('ABORTED', 'aborted by the caller', { cause: signal.reason }));
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
