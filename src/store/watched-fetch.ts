/**
 * Progress of what libraries fetch by themselves, in a worker that has nothing else to fetch.
 * Owns that worker's global fetch once it is asked for; changes no answer.
 */

/** Less than these in a minute is no progress: 1.1 kB/s. */
const MIN_PROGRESS_BYTES = 65_536;

/** From now on `onProgress` is called for every answer, and again for each 64 KiB of it. */
export function watchFetches(onProgress: () => void): void {
  const send = globalThis.fetch.bind(globalThis);
  globalThis.fetch = async (...request) => {
    const response = await send(...request);
    onProgress();
    // A copy is read beside it: the answer itself stays what a browser compiles while it comes.
    countBytes(response.clone(), onProgress).catch(() => {
      // The reader of the answer is told.
    });
    return response;
  };
}

async function countBytes({ body }: Response, onProgress: () => void): Promise<void> {
  const reader = body?.getReader();
  let bytes = 0;
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    bytes += part.value.byteLength;
    if (bytes < MIN_PROGRESS_BYTES) continue;
    bytes = 0;
    onProgress();
  }
}
