/**
 * What else is kept for a model, under ids of its own, and goes with it: headers of its files, requests that led to it.
 * Owns that list; of what it names, it reads only whether a request leads elsewhere by now.
 */
import { waitForLock } from './model-lock';
import type { ModelStore } from './model-store';
import { REQUEST_STATE } from './request-note';

/** Name of the state that has the list. */
const SOURCE_STATE = 'source';

/** Ids of what goes with a model. */
export async function readOwned(store: ModelStore, modelId: string): Promise<readonly string[]> {
  return ((await store.readState(modelId, SOURCE_STATE)) as readonly string[] | undefined) ?? [];
}

/** Adds to what goes with a model. Tabs that share the model take turns. @throws EngineError `STORAGE`, `STORAGE_FULL`, `ABORTED` */
export async function noteOwned(
  store: ModelStore,
  modelId: string,
  ids: readonly string[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const request = { storeKind: store.kind, modelId: `${modelId}/${SOURCE_STATE}`, mode: 'exclusive' } as const;
  const lock = await waitForLock(request, signal);
  try {
    const owned = await readOwned(store, modelId);
    const all = [...new Set([...owned, ...ids])];
    if (all.length > owned.length) await store.writeState(modelId, SOURCE_STATE, all);
  } finally {
    lock.release();
  }
}

/** Removes a model and what goes with it, but no request that has led to another model since. */
export async function removeWithOwned(store: ModelStore, modelId: string): Promise<void> {
  const owned = await readOwned(store, modelId);
  await store.removeModel(modelId);
  for (const id of owned) {
    const ledTo = await store.readState(id, REQUEST_STATE);
    if (ledTo === undefined || ledTo === modelId) await store.removeModel(id);
  }
}

/** Removes what nothing owns. What cannot be removed stays, as it does where a page dies. */
export async function removeUnowned(store: ModelStore, ids: readonly string[]): Promise<void> {
  for (const id of ids) await store.removeModel(id).catch(() => {});
}
