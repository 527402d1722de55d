import { afterEach, expect, it, vi } from 'vitest';
import { EngineError } from '../../../src/errors';
import { createStoreChooser } from '../../../src/store/choose-store';
import { createMemoryStore } from '../../../src/store/memory-store';
import type { ModelStore, StoreKind } from '../../../src/store/model-store';
import { pause } from '../../../src/store/pause';
import { askPersistence } from '../../../src/store/persistence';
import { createLockTable } from './lock-table';

afterEach(() => {
  vi.unstubAllGlobals();
});

/** What a worker of a browser has. */
function stubBrowser({ syncHandles = true } = {}): void {
  vi.stubGlobal('indexedDB', {});
  class FileSystemFileHandle {}
  if (syncHandles) Object.assign(FileSystemFileHandle.prototype, { createSyncAccessHandle: () => {} });
  vi.stubGlobal('FileSystemFileHandle', FileSystemFileHandle);
  vi.stubGlobal('navigator', { storage: { getDirectory: async () => ({}) } });
}

/** Stores whose reads take so long, and how often they were read. */
function createStores(readMs: Readonly<Partial<Record<StoreKind, number>>>) {
  const reads: StoreKind[] = [];
  const stores = new Map<StoreKind, ModelStore>();
  const chooseStore = (onWarning?: (message: string) => void) => createStoreChooser(open)(onWarning);
  const open = async (kind: StoreKind): Promise<ModelStore> => {
    const ms = readMs[kind];
    if (ms === undefined) throw new Error(`${kind} is refused`);
    const memory = stores.get(kind) ?? createMemoryStore();
    stores.set(kind, memory);
    return {
      ...memory,
      kind,
      async readRecord(modelId, key) {
        reads.push(kind);
        await pause(ms, undefined);
        return memory.readRecord(modelId, key);
      },
    };
  };
  return { open, chooseStore, reads, stores };
}

it.each([
  [{ opfs: 1, indexeddb: 12 }, 'opfs'],
  [{ opfs: 12, indexeddb: 1 }, 'indexeddb'],
  [{ indexeddb: 1 }, 'indexeddb'],
] as const)('of stores that read in %o ms, auto is %s, which it remembers', async (readMs, choice) => {
  stubBrowser();
  const { chooseStore, reads, stores } = createStores(readMs);
  expect(await chooseStore()).toBe(choice);
  const measured = reads.length;
  expect(await chooseStore()).toBe(choice);
  expect(reads).toHaveLength(measured);
  for (const store of stores.values()) {
    expect(await store.readDrafts()).toEqual([]);
    expect((await store.readDigests('webmoe-trial')).size).toBe(0);
  }
});

it('auto measures nothing where there is one store, or none', async () => {
  const { chooseStore, reads } = createStores({ indexeddb: 1, opfs: 1 });
  expect(await chooseStore()).toBe('memory');
  stubBrowser({ syncHandles: false });
  expect(await chooseStore()).toBe('indexeddb');
  expect(reads).toEqual([]);
});

it('calls that ask at a time share one trial, and tabs take turns', async () => {
  stubBrowser();
  const { open, reads } = createStores({ opfs: 1, indexeddb: 1 });
  const choose = createStoreChooser(open);
  expect(new Set(await Promise.all([choose(), choose(), choose()])).size).toBe(1);
  expect(reads).toHaveLength(32);

  const other = createStores({ opfs: 1, indexeddb: 1 });
  const { locks, held } = createLockTable();
  vi.stubGlobal('navigator', { storage: { getDirectory: async () => ({}) }, locks });
  expect(new Set(await Promise.all([other.chooseStore(), other.chooseStore()])).size).toBe(1);
  expect(other.reads).toHaveLength(32);
  expect([...held]).toEqual([]);
});

it.each(['opening', 'writing', 'reading'])(
  'a file system that fails at %s is the slower one, which is said',
  async (at) => {
    stubBrowser();
    const { open, stores } = createStores({ opfs: 1, indexeddb: 1 });
    const broken = async (): Promise<never> => {
      throw new EngineError('STORAGE', 'the handle is taken');
    };
    const openBroken = async (kind: StoreKind): Promise<ModelStore> => {
      if (kind !== 'opfs') return open(kind);
      if (at === 'opening') return broken();
      return { ...(await open(kind)), [at === 'writing' ? 'writeRecords' : 'readRecord']: broken };
    };
    const warnings: string[] = [];
    expect(await createStoreChooser(openBroken)((message) => warnings.push(message))).toBe('indexeddb');
    expect(warnings).toEqual([expect.stringMatching(/failed its trial.*the handle is taken/)]);
    expect(await createStoreChooser(open)()).toBe('indexeddb');
    for (const store of stores.values()) expect(await store.readDrafts()).toEqual([]);
  },
);

it.each(['opfs', 'indexeddb'])(
  'a full disk (%s) is no choice: indexeddb for now, and another trial when there is room',
  async (where) => {
    stubBrowser();
    const { open, reads } = createStores({ opfs: 1, indexeddb: 1 });
    const openFull = async (kind: StoreKind): Promise<ModelStore> => ({
      ...(await open(kind)),
      ...(kind === where && {
        async writeRecords() {
          throw new EngineError('STORAGE_FULL', 'no room');
        },
      }),
    });
    const warnings: string[] = [];
    expect(await createStoreChooser(openFull)((message) => warnings.push(message))).toBe('indexeddb');
    expect(warnings).toEqual([expect.stringMatching(/could not be tried.*no room/)]);
    reads.length = 0;
    await createStoreChooser(open)();
    expect(reads).toHaveLength(32);
  },
);

it('a database that is refused is an error, and is asked again by the next call', async () => {
  stubBrowser();
  const { open, reads } = createStores({ opfs: 1, indexeddb: 1 });
  let isRefused = true;
  const choose = createStoreChooser(async (kind) => {
    if (isRefused) throw new EngineError('STORAGE', 'refused');
    return open(kind);
  });
  await expect(choose()).rejects.toMatchObject({ code: 'STORAGE' });
  isRefused = false;
  await choose();
  expect(reads).toHaveLength(32);
});

it('asks for persistence where that can be done, once it is not given, and never fails', async () => {
  expect(await askPersistence()).toBeNull();
  const persist = vi.fn(async () => true);
  const persisted = vi.fn(async () => true);
  vi.stubGlobal('navigator', { storage: { persist, persisted } });
  expect(await askPersistence()).toBe(true);
  expect(persist).not.toHaveBeenCalled();
  persisted.mockResolvedValue(false);
  persist.mockResolvedValue(false);
  expect(await askPersistence()).toBe(false);
  expect(persist).toHaveBeenCalledOnce();
  persist.mockRejectedValue(new DOMException('no', 'InvalidStateError'));
  expect(await askPersistence()).toBeNull();
});
