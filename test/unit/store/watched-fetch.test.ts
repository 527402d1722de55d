/** Answers whose progress is told are the server's own, whole or broken. */
import { afterEach, expect, it, vi } from 'vitest';
import { watchFetches } from '../../../src/store/watched-fetch';

const KIB = 1024;
afterEach(() => vi.unstubAllGlobals());

/** Parts of a body, in turn; null: it breaks. */
function serve(parts: readonly (Uint8Array<ArrayBuffer> | null)[]): { readonly calls: number } {
  const rest = [...parts];
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      const part = rest.shift();
      if (part) controller.enqueue(part);
      else if (part === null) controller.error(new TypeError('the line is gone'));
      else controller.close();
    },
  });
  const answer = new Response(body, { headers: { 'content-type': 'application/wasm' } });
  vi.stubGlobal('fetch', async () => answer);
  const watch = { calls: 0 };
  watchFetches(() => {
    watch.calls++;
  });
  return watch;
}

it('tells of an answer and of each 64 KiB of it, and leaves it whole', async () => {
  const bytes = Uint8Array.from({ length: 300 * KIB }, (_, i) => i % 251);
  const watch = serve(Array.from({ length: 30 }, (_, i) => bytes.slice(i * 10 * KIB, (i + 1) * 10 * KIB)));
  const response = await fetch('http://x/ort.wasm');
  expect(watch.calls).toBe(1);
  expect(response.headers.get('content-type')).toBe('application/wasm');
  expect(Buffer.from(await response.arrayBuffer()).equals(bytes)).toBe(true);
  // Parts of 10 KiB pass the mark at every seventh.
  await vi.waitFor(() => expect(watch.calls).toBe(1 + 4));
});

it('tells nothing of an answer that stops coming, whose reader gets the error', async () => {
  const watch = serve([new Uint8Array(KIB), null]);
  await expect((await fetch('http://x/ort.wasm')).arrayBuffer()).rejects.toThrow('the line is gone');
  expect(watch.calls).toBe(1);
});
