/**
 * Entry of the learned predictor's own worker: opens the network it is sent and answers pushes in order.
 * Owns the queue; never knows who asks, nor what the answers are for.
 */
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

globalThis.addEventListener('message', ({ data }: MessageEvent<PathRequest>) => {
  queue = queue.then(() => serve(data)).catch((thrown) => reply({ kind: 'failed', error: toErrorWire(thrown) }));
});
