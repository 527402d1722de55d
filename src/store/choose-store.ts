/**
 * Which of the browser's stores is the faster one on this machine: measured once, and remembered.
 * Owns that measurement; the choice stays, so that models are found where they were put.
 */
import { waitForLock } from './model-lock';
import type { ModelStore, RecordSize, StoreChoice, StoreKind } from './model-store';
import { hasSyncHandles } from './opfs-file';
import { isStorageFull } from './storage-errors';

const STATE_ID = 'webmoe';
const STATE_NAME = 'store-choice';
const TRIAL_ID = 'webmoe-trial';
const RECORD_BYTES = 512 * 1024;
const RECORDS = 8;

/**
 * What `auto` means here: asked for once by an engine, however many calls ask for it at a time.
 * @param open opens a store of a kind, or gives the one that is open.
 * @returns a function that is told what the user should know, and throws EngineError `STORAGE` when IndexedDB is refused.
 */
export function createStoreChooser(
  open: (kind: StoreKind) => Promise<ModelStore>,
): (onWarning?: (message: string) => void) => Promise<StoreKind> {
  let choice: Promise<StoreKind> | null = null;
  return (onWarning = () => {}) => {
    choice ??= chooseStore(open, onWarning).catch((error: unknown) => {
      choice = null;
      throw error;
    });
    return choice;
  };
}

async function chooseStore(
  open: (kind: StoreKind) => Promise<ModelStore>,
  onWarning: (message: string) => void,
): Promise<StoreKind> {
  if (getDefaultStore() === 'memory') return 'memory';
  if (!hasSyncHandles()) return 'indexeddb';
  const database = await open('indexeddb');
  const remembered = await readChoice(database);
  if (remembered) return remembered;
  // Tabs at the same trial would remove each other's records.
  const lock = await waitForLock({ storeKind: 'indexeddb', modelId: TRIAL_ID, mode: 'exclusive' }, undefined);
  try {
    return (await readChoice(database)) ?? (await tryStores(open, database, onWarning));
  } finally {
    lock.release();
  }
}

async function readChoice(database: ModelStore): Promise<StoreKind | null> {
  const remembered = await database.readState(STATE_ID, STATE_NAME);
  return remembered === 'opfs' || remembered === 'indexeddb' ? remembered : null;
}

/** The faster store, which is remembered; where a full disk leaves no room for the trial, IndexedDB for now. */
async function tryStores(
  open: (kind: StoreKind) => Promise<ModelStore>,
  database: ModelStore,
  onWarning: (message: string) => void,
): Promise<StoreKind> {
  try {
    const filesMs = await measureFilesMs(open, onWarning);
    const isFaster = filesMs < Number.POSITIVE_INFINITY && filesMs < (await measureReadMs(database));
    const choice = isFaster ? 'opfs' : 'indexeddb';
    await database.writeState(STATE_ID, STATE_NAME, choice);
    return choice;
  } catch (error) {
    if (!isStorageFull(error)) throw error;
    onWarning(`which store is the faster one could not be tried, and indexeddb is used for now: ${error.message}`);
    return 'indexeddb';
  }
}

/** For ever, where the file system is refused or fails. @throws EngineError `STORAGE_FULL` */
async function measureFilesMs(
  open: (kind: StoreKind) => Promise<ModelStore>,
  onWarning: (message: string) => void,
): Promise<number> {
  try {
    return await measureReadMs(await open('opfs'));
  } catch (error) {
    if (isStorageFull(error)) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    onWarning(`the origin private file system failed its trial, and store "auto" is indexeddb from now on: ${reason}`);
    return Number.POSITIVE_INFINITY;
  }
}

/** Where models are kept unless told otherwise: IndexedDB, or memory where there is none (Node). */
export function getDefaultStore(): StoreKind {
  return typeof indexedDB === 'undefined' ? 'memory' : 'indexeddb';
}

/** What a choice comes to where that is known without a trial: Node has memory alone. */
export function foreseeStore(choice: StoreChoice): StoreChoice {
  return choice === 'auto' && getDefaultStore() === 'memory' ? 'memory' : choice;
}

/** Time to read a few records, one by one, as faults do; the better of two rounds. */
async function measureReadMs(store: ModelStore): Promise<number> {
  const records: RecordSize[] = Array.from({ length: RECORDS }, (_, i) => ({
    key: `page/0/${i}`,
    sizeBytes: RECORD_BYTES,
  }));
  const draft = {
    format: 1,
    modelId: TRIAL_ID,
    name: TRIAL_ID,
    sourceBytes: RECORDS * RECORD_BYTES,
    neededBytes: RECORDS * RECORD_BYTES,
    records: RECORDS,
    sourceName: TRIAL_ID,
    sourceVersion: '',
  } as const;
  try {
    await store.writeDraft(draft, records);
    const bytes = new Uint8Array(RECORD_BYTES);
    await store.writeRecords(
      TRIAL_ID,
      records.map(({ key }) => [key, bytes, key]),
    );
    let bestMs = Number.POSITIVE_INFINITY;
    for (let round = 0; round < 2; round++) {
      const startMs = performance.now();
      for (const { key } of records) await store.readRecord(TRIAL_ID, key);
      bestMs = Math.min(bestMs, performance.now() - startMs);
    }
    return bestMs;
  } finally {
    await store.removeModel(TRIAL_ID);
  }
}
