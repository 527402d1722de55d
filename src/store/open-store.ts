/**
 * From the name of a store kind to an open store: the one table to extend for a new kind.
 */
import { EngineError } from '../errors';
import { openIndexedDbStore } from './indexeddb-store';
import { createMemoryStore } from './memory-store';
import type { ModelStore, StoreKind } from './model-store';
import { openOpfsStore } from './opfs-store';

const OPENERS: Readonly<Record<StoreKind, () => Promise<ModelStore>>> = {
  indexeddb: () => openIndexedDbStore(),
  opfs: () => openOpfsStore(),
  memory: async () => createMemoryStore(),
};

/**
 * Opens a store. Each memory store is a new, empty one: whoever opens it keeps it.
 * @throws EngineError `BAD_ARGUMENT` for an unknown kind, `STORAGE` when the browser refuses it, `UNSUPPORTED` where it lacks it.
 */
export async function openStore(kind: StoreKind): Promise<ModelStore> {
  if (!Object.hasOwn(OPENERS, kind)) {
    const known = Object.keys(OPENERS).join(', ');
    throw new EngineError('BAD_ARGUMENT', `store "${String(kind)}" is unknown; use one of: ${known}`);
  }
  return OPENERS[kind]();
}
