/**
 * The Web Lock of one installed model: whoever installs or removes it holds it alone, whoever reads it shares it.
 * Memory is not shared between tabs, and Node 20 has no locks: there every lock is granted.
 */
import { throwIfAborted } from '../aborts';

export interface ModelLock {
  release(): void;
}

export interface LockRequest {
  readonly storeKind: string;
  readonly modelId: string;
  readonly mode: 'shared' | 'exclusive';
}

const GRANTED: ModelLock = { release: () => {} };

/** The lock, or null where another tab stands in the way. */
export async function tryLock(request: LockRequest): Promise<ModelLock | null> {
  return acquire(request, { ifAvailable: true });
}

/** @throws EngineError `ABORTED` */
export async function waitForLock(request: LockRequest, signal: AbortSignal | undefined): Promise<ModelLock> {
  try {
    return (await acquire(request, signal ? { signal } : {})) ?? GRANTED;
  } catch (error) {
    throwIfAborted(signal, `waiting for model ${request.modelId}`);
    throw error;
  }
}

async function acquire(
  { storeKind, modelId, mode }: LockRequest,
  options: { readonly ifAvailable?: boolean; readonly signal?: AbortSignal },
): Promise<ModelLock | null> {
  const locks = globalThis.navigator?.locks;
  if (locks === undefined || storeKind === 'memory') return GRANTED;
  return new Promise((resolve, reject) => {
    locks
      .request(`webmoe/model/${storeKind}/${modelId}`, { mode, ...options }, (granted) => {
        if (granted === null) {
          resolve(null);
          return undefined;
        }
        // Held until this promise is kept.
        return new Promise<void>((release) => resolve({ release: () => release() }));
      })
      .catch(reject);
  });
}
