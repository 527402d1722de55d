/**
 * Every fault of the browser's stores, in an install and in what is installed: a coded error after which the install goes on
 * where it was, or a page that is fetched again. Faults of the hub are in test/unit/store/hub-faults.test.ts.
 */
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ByteSource } from '../../../src/checkpoint/byte-source';
import { EngineError } from '../../../src/errors';
import { openIndexedDbStore } from '../../../src/store/indexeddb-store';
import { installModel } from '../../../src/store/install';
import { createMemorySource } from '../../../src/store/memory-source';
import { createMemoryStore } from '../../../src/store/memory-store';
import type { ModelStore } from '../../../src/store/model-store';
import { openModel } from '../../../src/store/open-model';
import { computeDigest } from '../../../src/store/record-digest';
import { readGoldenModel } from '../../golden';
import { openRemoteStore } from '../../opfs/remote-store';
import type { FileFault } from '../../opfs/worker';

/** A store, and what can happen to it. */
interface Fixture {
  readonly store: ModelStore;
  /** The next write has no room. */
  fillUp(): Promise<void>;
  /** The record cannot be read, until it is written again. */
  damage(how: Damage, modelId: string, key: string): Promise<void>;
}

type Damage = (typeof DAMAGES)[number];
const DAMAGES = ['NotReadableError', 'a read that ends early', 'a lost page', 'a flipped bit'] as const;
/** A read is tried twice before its record counts as lost. */
const TRIES = 2;
/** Nothing may take longer. */
const PATIENCE_MS = 30_000;

let name = '';
let source: ByteSource;
let digests: Readonly<Record<string, string>>;
/** Read of the source by an install from nothing. */
let installBytes = 0;
let close: (() => Promise<void>) | undefined;

function watchSource() {
  const log = { bytes: 0 };
  const watched: ByteSource = {
    ...source,
    read(offsetBytes, lengthBytes, signal) {
      log.bytes += lengthBytes;
      return source.read(offsetBytes, lengthBytes, signal);
    },
  };
  return { watched, log };
}

beforeAll(async () => {
  source = createMemorySource(await readGoldenModel('e16k4-q4_0'), 'tiny.gguf');
  const { watched, log } = watchSource();
  digests = (await installModel(watched, createMemoryStore())).manifest.digests;
  installBytes = log.bytes;
});
beforeEach(() => {
  name = `webmoe-test-${crypto.randomUUID()}`;
});
afterEach(async () => {
  vi.restoreAllMocks();
  await close?.();
  close = undefined;
  indexedDB.deleteDatabase(name);
});

async function openIndexedDb(): Promise<Fixture> {
  const store = await openIndexedDbStore({ databaseName: name });
  close = () => store.close();
  return {
    store,
    async fillUp() {
      vi.spyOn(IDBObjectStore.prototype, 'put').mockImplementationOnce(() => {
        throw new DOMException('no room', 'QuotaExceededError');
      });
    },
    async damage(how, modelId, key) {
      if (how === 'NotReadableError') {
        const read = vi.spyOn(Blob.prototype, 'arrayBuffer');
        for (let i = 0; i < TRIES; i++) read.mockRejectedValueOnce(new DOMException('the disk is gone', how));
        return;
      }
      const bytes = await store.readRecord(modelId, key);
      await changeRecords((records) => {
        const last = bytes.byteLength - 1;
        if (how === 'a lost page') records.delete([modelId, key]);
        if (how === 'a read that ends early') records.put(new Blob([bytes.slice(0, last)]), [modelId, key]);
        if (how === 'a flipped bit') {
          bytes[last] = (bytes[last] ?? 0) ^ 0x10;
          records.put(new Blob([bytes.slice()]), [modelId, key]);
        }
      });
    },
  };
}

/** What another page, or the browser, does to the database. */
async function changeRecords(change: (records: IDBObjectStore) => void): Promise<void> {
  const request = indexedDB.open(name);
  await new Promise((resolve, reject) => {
    request.onsuccess = resolve;
    request.onerror = reject;
  });
  const transaction = request.result.transaction('records', 'readwrite');
  change(transaction.objectStore('records'));
  await new Promise((resolve) => {
    transaction.oncomplete = resolve;
  });
  request.result.close();
}

const FILE_FAULTS: Readonly<Record<Exclude<Damage, 'a lost page'>, FileFault>> = {
  NotReadableError: 'NotReadableError',
  'a read that ends early': 'short',
  'a flipped bit': 'flipped',
};

async function openOpfs(): Promise<Fixture> {
  const store = await openRemoteStore(name);
  const root = await navigator.storage.getDirectory();
  close = async () => {
    await store.close();
    await root.removeEntry(name, { recursive: true });
  };
  return {
    store,
    async fillUp() {
      await store.service.fail('QuotaExceededError', 1);
    },
    async damage(how, modelId) {
      if (how !== 'a lost page') return store.service.fail(FILE_FAULTS[how], TRIES);
      // The file of all pages, taken away.
      await store.release(modelId);
      await (await root.getDirectoryHandle(name)).removeEntry(modelId);
    },
  };
}

describe.each([
  ['IndexedDB', openIndexedDb],
  ['OPFS', openOpfs],
] as const)('%s', (_, open) => {
  it('a quota error in the middle of an install: STORAGE_FULL with the bytes needed, and it goes on when there is room', async () => {
    const { store, fillUp } = await open();
    const startMs = performance.now();
    const writes: Promise<void>[] = [];
    const filling: ModelStore = {
      ...store,
      async writeRecords(...written) {
        if (writes.length === 2) {
          await Promise.all(writes);
          await fillUp();
        }
        const write = store.writeRecords(...written);
        writes.push(write);
        await write;
      },
    };
    await expect(installModel(source, filling, { batchBytes: 65_536 })).rejects.toMatchObject({
      code: 'STORAGE_FULL',
      message: expect.stringMatching(
        /needs \d+ bytes of storage, [1-9]\d* of them are written, and the other [1-9]\d* are not there: .*used \d+ of an estimated quota of \d+ bytes.*remove another/,
      ),
    });
    vi.restoreAllMocks();
    const [draft] = await store.readDrafts();
    const kept = await store.readDigests(draft?.modelId ?? '');
    expect(kept.size).toBeGreaterThan(0);
    const resumed = watchSource();
    const { manifest } = await installModel(resumed.watched, store);
    expect(manifest.digests).toEqual(digests);
    expect(resumed.log.bytes).toBeLessThan(installBytes);
    expect(await store.readDrafts()).toEqual([]);
    expect(performance.now() - startMs).toBeLessThan(PATIENCE_MS);
  });

  it.each(DAMAGES)('%s of an installed model: the page is fetched again, and is in the store again', async (how) => {
    const { store, damage } = await open();
    const startMs = performance.now();
    const { manifest } = await installModel(source, store);
    const key = 'page/0/1';
    const model = await openModel(source, store);
    expect(model.isNew).toBe(false);
    await damage(how, manifest.modelId, key);
    expect(await computeDigest(await model.records.read(key))).toBe(digests[key]);
    expect(model.records.counters.repairs).toBe(1);
    expect(model.records.takeWarnings()).toEqual([expect.stringMatching(/fetched again from tiny\.gguf/)]);
    await model.close();
    expect(await computeDigest(await store.readRecord(manifest.modelId, key))).toBe(digests[key]);
    expect(performance.now() - startMs).toBeLessThan(PATIENCE_MS);
  });

  it.each(DAMAGES)(
    '%s of an installed model whose source is gone: a coded error, and the other pages are read',
    async (how) => {
      const { store, damage } = await open();
      const { manifest } = await installModel(source, store);
      let isGone = false;
      const leaving: ByteSource = {
        ...source,
        async read(...range) {
          if (isGone) throw new EngineError('NETWORK', 'the server is gone');
          return source.read(...range);
        },
      };
      const model = await openModel(leaving, store);
      isGone = true;
      await damage(how, manifest.modelId, 'page/0/1');
      const startMs = performance.now();
      await expect(model.records.read('page/0/1')).rejects.toMatchObject({
        code:
          how === 'a flipped bit' || (how === 'a read that ends early' && store.kind === 'indexeddb')
            ? 'CORRUPT'
            : 'STORAGE',
        message: expect.stringMatching(/"page\/0\/1".*fetching it again failed: the server is gone/),
      });
      expect(performance.now() - startMs).toBeLessThan(PATIENCE_MS);
      // In OPFS what is lost is the file with every page.
      const isOtherThere = how !== 'a lost page' || store.kind === 'indexeddb';
      if (isOtherThere) expect(await computeDigest(await model.records.read('page/0/2'))).toBe(digests['page/0/2']);
      isGone = false;
      expect(await computeDigest(await model.records.read('page/0/1'))).toBe(digests['page/0/1']);
      await model.close();
    },
  );
});
