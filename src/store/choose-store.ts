/**
 * Which of the browser's stores is the faster one on this machine: measured once, and remembered.
 * Owns that measurement; the choice stays, so that models are found where they were put.
 */
import type { ModelStore, RecordSize, StoreKind } from './model-store';
import { hasSyncHandles } from './opfs-file';

const STATE_ID = 'webmoe';
const STATE_NAME = 'store-choice';
const TRIAL_ID = 'webmoe-trial';
const RECORD_BYTES = 512 * 1024;
const RECORDS = 8;

/**
 * What `auto` means here.
 * @param open opens a store of a kind, or gives the one that is open.
 * @throws EngineError `STORAGE`, `STORAGE_FULL` when IndexedDB is refused or has no room for a trial of 4 MiB.
 */
export async function chooseStore(open: (kind: StoreKind) => Promise<ModelStore>): Promise<StoreKind> {
  if (typeof indexedDB === 'undefined') return 'memory';
  if (!hasSyncHandles()) return 'indexeddb';
  const database = await open('indexeddb');
  const remembered = await database.readState(STATE_ID, STATE_NAME);
  if (remembered === 'opfs' || remembered === 'indexeddb') return remembered;
  const files = await open('opfs').catch(() => null);
  const isFaster = files !== null && (await measureReadMs(files)) < (await measureReadMs(database));
  const choice = isFaster ? 'opfs' : 'indexeddb';
  await database.writeState(STATE_ID, STATE_NAME, choice);
  return choice;
}

/** Where models are kept unless told otherwise: IndexedDB, or memory where there is none (Node). */
export function getDefaultStore(): StoreKind {
  return typeof indexedDB === 'undefined' ? 'memory' : 'indexeddb';
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
