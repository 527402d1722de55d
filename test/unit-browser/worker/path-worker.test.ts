/** The learned predictor's worker as it is: what onnxruntime fetches shows as progress. */
import { expect, it } from 'vitest';
import type { PathReply, PathRequest } from '../../../src/worker/path-protocol';

it('tells that onnxruntime is coming, and then what the network is not', async () => {
  const worker = new Worker(new URL('../../../src/worker/path-worker.ts', import.meta.url), { type: 'module' });
  const replies: PathReply[] = [];
  try {
    await new Promise<void>((resolve, reject) => {
      worker.onerror = ({ message }) => reject(new Error(message));
      worker.onmessage = ({ data }: MessageEvent<PathReply>) => {
        replies.push(data);
        if (data.kind !== 'progress') resolve();
      };
      const shape = { layers: 2, experts: 4, expertsPerToken: 2 };
      worker.postMessage({ kind: 'open', network: Uint8Array.of(1), shape } satisfies PathRequest);
    });
  } finally {
    worker.terminate();
  }
  expect(replies.at(-1)).toMatchObject({ kind: 'failed', error: { code: 'BAD_FILE' } });
  // One when the worker runs, one with the answer, and more as its 14 MB come.
  expect(replies.length - 1).toBeGreaterThan(2);
});
