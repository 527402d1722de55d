import { afterEach, expect, it, vi } from 'vitest';
import { chooseStore } from '../../../src/store/choose-store';
import { createMemoryStore } from '../../../src/store/memory-store';
import type { ModelStore, StoreKind } from '../../../src/store/model-store';
import { pause } from '../../../src/store/pause';
import { askPersistence } from '../../../src/store/persistence';

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
  return { open, reads, stores };
}

it.each([
  [{ opfs: 1, indexeddb: 12 }, 'opfs'],
  [{ opfs: 12, indexeddb: 1 }, 'indexeddb'],
  [{ indexeddb: 1 }, 'indexeddb'],
] as const)('of stores that read in %o ms, auto is %s, which it remembers', async (readMs, choice) => {
  stubBrowser();
  const { open, reads, stores } = createStores(readMs);
  expect(await chooseStore(open)).toBe(choice);
  const measured = reads.length;
  expect(await chooseStore(open)).toBe(choice);
  expect(reads).toHaveLength(measured);
  for (const store of stores.values()) {
    expect(await store.readDrafts()).toEqual([]);
    expect((await store.readDigests('webmoe-trial')).size).toBe(0);
  }
});

it('auto measures nothing where there is one store, or none', async () => {
  const { open, reads } = createStores({ indexeddb: 1, opfs: 1 });
  expect(await chooseStore(open)).toBe('memory');
  stubBrowser({ syncHandles: false });
  expect(await chooseStore(open)).toBe('indexeddb');
  expect(reads).toEqual([]);
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
