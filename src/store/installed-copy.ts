/**
 * Which model a request led to, remembered with the model: one that is installed is found when its source cannot be asked.
 * Owns that note; knows nothing of URLs.
 */
import type { ByteSource } from '../checkpoint/byte-source';
import { planInstalled } from '../checkpoint/installed-plan';
import type { ModelManifest } from '../checkpoint/manifest';
import { EngineError } from '../errors';
import { waitForLock } from './model-lock';
import { ModelRecords } from './model-records';
import type { ModelStore } from './model-store';
import { OpenModel } from './open-model';
import { getRequestId, REQUEST_STATE } from './request-note';

/** The model that an earlier request of these words led to, where it is installed whole. */
export async function findInstalled(store: ModelStore, request: string): Promise<ModelManifest | null> {
  const modelId = await store.readState(await getRequestId(request), REQUEST_STATE);
  return typeof modelId === 'string' ? ((await store.readManifest(modelId)) ?? null) : null;
}

/**
 * Opens an installed model without its source.
 * @param reason why the source is not asked: what is thrown where a record that the store lost is needed.
 * @throws EngineError `reason` when the model was removed meanwhile, `ABORTED`.
 */
export async function openInstalled(
  store: ModelStore,
  { modelId }: ModelManifest,
  reason: EngineError,
  signal: AbortSignal | undefined,
): Promise<OpenModel> {
  const lock = await waitForLock({ storeKind: store.kind, modelId, mode: 'shared' }, signal);
  try {
    // Read again: it may have changed while the lock was waited for.
    const manifest = await store.readManifest(modelId);
    if (!manifest) throw reason;
    const plan = planInstalled(manifest);
    const source: ByteSource = {
      name: `the source of "${manifest.name}"`,
      sizeBytes: manifest.sourceBytes,
      isRemote: true,
      async read() {
        throw new EngineError(reason.code, reason.message, { cause: reason });
      },
    };
    const digests = new Map(Object.entries(manifest.digests));
    return new OpenModel(plan, new ModelRecords({ plan, source, store, digests }, manifest), false, store, lock);
  } catch (error) {
    lock.release();
    throw error;
  }
}
