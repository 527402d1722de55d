/**
 * Entry of the learned predictor's own worker: opens the network it is sent and answers pushes in order.
 * Owns the queue; never knows who asks, nor what the answers are for.
 */
import { watchFetches } from '../store/watched-fetch';
import { toErrorWire } from './error-wire';
import type { PathReply, PathRequest } from './path-protocol';
import { openPathSession, type PathSession } from './path-session';

let session: PathSession;
let queue: Promise<void> = Promise.resolve();

const reply = (message: PathReply): void => globalThis.postMessage(message);

async function serve(request: PathRequest): Promise<void> {
  if (request.kind === 'open') {
    session = await openPathSession(request.network, request.shape);
    reply({ kind: 'opened' });
    return;
  }
  const { position, tokenIds } = request;
  const scores = (await session.run(position, tokenIds)) as Float32Array<ArrayBuffer>;
  reply({ kind: 'answer', position: position + tokenIds.length - 1, scores });
}

// onnxruntime is 14 MB, which take their time on a slow line.
const noteProgress = (): void => reply({ kind: 'progress' });
noteProgress();
watchFetches(noteProgress);

globalThis.addEventListener('message', ({ data }: MessageEvent<PathRequest>) => {
  queue = queue.then(() => serve(data)).catch((thrown) => reply({ kind: 'failed', error: toErrorWire(thrown) }));
});
