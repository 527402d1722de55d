/**
 * The learned predictor as the engine sees it: a PathModel whose network runs in a worker of its own.
 * Owns that worker and the latest answer; never blocks, and never fails once it is open: it falls silent.
 */
import { orAborted } from '../aborts';
import { EngineError } from '../errors';
import type { PathModel } from '../routing/learned';
import type { RoutingShape } from '../routing/token-routes';
import { fromErrorWire } from './error-wire';
import type { PathReply, PathRequest } from './path-protocol';

/** How long nothing may come while the worker loads onnxruntime, 14 MB, and opens the network. */
const OPEN_LIMIT_MS = 60_000;

/**
 * @param network the ONNX file that tools/train/learned.py writes
 * @param onFailure the network failed or its worker died after it was opened: no answer comes any more
 * @param signal ends the opening, and the worker with it
 * @throws EngineError `BAD_FILE`, `WORKER_DEAD` (also when nothing comes of it any more), `ABORTED`
 */
export async function openPathModel(
  network: Uint8Array,
  shape: RoutingShape,
  onFailure: (error: EngineError) => void,
  signal?: AbortSignal,
  openLimitMs = OPEN_LIMIT_MS,
): Promise<PathModel> {
  const worker = new Worker(new URL('./path-worker.ts', import.meta.url), { type: 'module' });
  const send = (request: PathRequest): void => worker.postMessage(request);
  let answer: { readonly position: number; readonly scores: Float32Array } | null = null;
  let wake = (): void => {};
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    const opening = new Promise<void>((resolve, reject) => {
      const restartTimer = (): void => {
        clearTimeout(timer);
        timer = setTimeout(() => reject(createDelay(openLimitMs)), openLimitMs);
      };
      restartTimer();
      worker.onmessage = ({ data }: MessageEvent<PathReply>) => {
        if (data.kind === 'progress') restartTimer();
        if (data.kind === 'opened') resolve();
        if (data.kind === 'failed') reject(fromErrorWire(data.error));
      };
      worker.onerror = ({ message }) => reject(createDeath(message));
      send({ kind: 'open', network, shape });
    });
    await orAborted(opening, signal);
  } catch (error) {
    worker.terminate();
    throw error;
  } finally {
    clearTimeout(timer);
  }
  const fail = (error: EngineError): void => {
    worker.terminate();
    answer = null;
    onFailure(error);
  };
  worker.onmessage = ({ data }: MessageEvent<PathReply>) => {
    if (data.kind === 'failed') fail(fromErrorWire(data.error));
    if (data.kind !== 'answer') return;
    answer = data;
    wake();
  };
  worker.onerror = ({ message }) => fail(createDeath(message));

  const get = (position: number): Float32Array | null => (answer?.position === position ? answer.scores : null);
  return {
    push(position, tokenIds) {
      answer = null;
      send({ kind: 'push', position, tokenIds });
    },
    get,
    async waitFor(position, limitMs) {
      if (get(position)) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, limitMs);
        wake = () => {
          if (!get(position)) return;
          clearTimeout(timer);
          resolve();
        };
      });
    },
    close: () => worker.terminate(),
  };
}

function createDelay(limitMs: number): EngineError {
  return new EngineError(
    'WORKER_DEAD',
    `the learned predictor is not open, and nothing came for ${limitMs / 1000} s: its worker, or the files of onnxruntime that ` +
      'it loads; see that the server has them, or use another predictor',
  );
}

function createDeath(message: string | undefined): EngineError {
  return new EngineError(
    'WORKER_DEAD',
    `the learned predictor's worker died: ${message || 'it gives no reason'}; use another predictor, or load the model again`,
  );
}
