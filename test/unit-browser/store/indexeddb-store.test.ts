import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { cdp } from 'vitest/browser';
import { openIndexedDbStore } from '../../../src/store/indexeddb-store';
import type { ModelStore } from '../../../src/store/model-store';
import { openStore } from '../../../src/store/open-store';
import { createBytes, createManifest, describeModelStore } from '../../unit/store/store-contract';

/** What vitest's session type leaves out: the protocol's storage domain. */
const devtools = cdp() as unknown as { send(method: string, params: object): Promise<unknown> };

let databaseName = '';
let stores: ModelStore[] = [];

async function open(options: { openTimeoutMs?: number } = {}): Promise<ModelStore> {
  const store = await openIndexedDbStore({ databaseName, ...options });
  stores.push(store);
  return store;
}

function awaitRequest<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** The connections that were opened, as the browser sees them. */
function watchConnections(): IDBDatabase[] {
  const databases: IDBDatabase[] = [];
  const original = IDBFactory.prototype.open;
  vi.spyOn(IDBFactory.prototype, 'open').mockImplementation(function (this: IDBFactory, ...args) {
    const request = original.apply(this, args);
    request.addEventListener('success', () => databases.push(request.result));
    return request;
  });
  return databases;
}

beforeEach(() => {
  databaseName = `webmoe-test-${crypto.randomUUID()}`;
  stores = [];
});

afterEach(async () => {
  vi.restoreAllMocks();
  for (const store of stores) await store.close();
  await awaitRequest(indexedDB.deleteDatabase(databaseName));
});

describeModelStore('IndexedDB store', () => open());

describe('IndexedDB store', () => {
  it('keeps a model for the next session', async () => {
    const first = await open();
    await first.writeRecords('a', [['k', createBytes(100_000)]]);
    await first.writeManifest(createManifest('a'));
    await first.close();
    const second = await open();
    expect(await second.readModels()).toEqual([createManifest('a')]);
    expect(await second.readRecord('a', 'k')).toEqual(createBytes(100_000));
  });

  it('stores records as Blobs in relaxed transactions and manifests in strict ones', async () => {
    const transaction = vi.spyOn(IDBDatabase.prototype, 'transaction');
    const store = await open();
    await store.writeRecords('a', [['k', createBytes(10)]]);
    await store.writeManifest(createManifest('a'));
    expect(transaction.mock.calls).toEqual([
      ['records', 'readwrite', { durability: 'relaxed' }],
      ['manifests', 'readwrite', { durability: 'strict' }],
      ['drafts', 'readwrite', { durability: 'strict' }],
    ]);
    const database = await awaitRequest(indexedDB.open(databaseName));
    const value = await awaitRequest(database.transaction('records').objectStore('records').get(['a', 'k']));
    database.close();
    expect(value).toBeInstanceOf(Blob);
  });

  it('writes all records of a batch or none', async () => {
    const store = await open();
    const put = IDBObjectStore.prototype.put;
    vi.spyOn(IDBObjectStore.prototype, 'put').mockImplementation(function (this: IDBObjectStore, value, key) {
      if (String(key).endsWith('bad')) throw new DOMException('cannot be cloned', 'DataCloneError');
      return put.call(this, value, key);
    });
    await expect(
      store.writeRecords('a', [
        ['good', createBytes(4)],
        ['bad', createBytes(4)],
      ]),
    ).rejects.toMatchObject({
      code: 'STORAGE',
      message: expect.stringMatching(/writing 8 bytes of model a failed \(DataCloneError: cannot be cloned\)/),
    });
    await expect(store.readRecord('a', 'good')).rejects.toMatchObject({ code: 'STORAGE' });
  });

  it('opens the database again when the browser closed the connection', async () => {
    const databases = watchConnections();
    const store = await open();
    await store.writeRecords('a', [['k', createBytes(10)]]);
    databases[0]!.close();
    expect(await store.readRecord('a', 'k')).toEqual(createBytes(10));
    databases[1]!.close();
    await store.writeRecords('a', [['l', createBytes(5)]]);
    expect(await store.readRecord('a', 'l')).toEqual(createBytes(5));
    expect(databases).toHaveLength(3);
  });

  it('opens the database again once for all who lost the connection together', async () => {
    const databases = watchConnections();
    const store = await open();
    await store.writeRecords('a', [['k', createBytes(10)]]);
    databases[0]!.close();
    const reads = await Promise.all(Array.from({ length: 8 }, () => store.readRecord('a', 'k')));
    expect(reads).toEqual(Array.from({ length: 8 }, () => createBytes(10)));
    expect(databases).toHaveLength(2);
  });

  it('opens the database again when a running transaction is aborted from outside', async () => {
    const store = await open();
    const { transaction } = IDBDatabase.prototype;
    vi.spyOn(IDBDatabase.prototype, 'transaction').mockImplementationOnce(function (this: IDBDatabase, ...args) {
      const started = transaction.apply(this, args);
      queueMicrotask(() => started.abort());
      return started;
    });
    await store.writeRecords('a', [['k', createBytes(10)]]);
    expect(await store.readRecord('a', 'k')).toEqual(createBytes(10));
  });

  it('gives up with a coded error when the connection closes each time', async () => {
    const store = await open();
    vi.spyOn(IDBDatabase.prototype, 'transaction').mockImplementation(() => {
      throw new DOMException('The database connection is closing.', 'InvalidStateError');
    });
    await expect(store.readRecord('a', 'k')).rejects.toMatchObject({
      code: 'STORAGE',
      message: expect.stringMatching(/reading record "k" of model a failed \(InvalidStateError/),
    });
  });

  it('lets another tab delete the database, and has no model then', async () => {
    const store = await open();
    await store.writeManifest(createManifest('a'));
    await awaitRequest(indexedDB.deleteDatabase(databaseName));
    expect(await store.readModels()).toEqual([]);
  });

  it('refuses a database of a newer version with a coded error', async () => {
    const request = indexedDB.open(databaseName, 99);
    (await awaitRequest(request)).close();
    await expect(open()).rejects.toMatchObject({
      code: 'STORAGE',
      message: expect.stringMatching(/opening database.*VersionError/),
    });
  });

  it('gives up when the database does not open in time', async () => {
    // holds on to its connection although a deletion waits for it
    const holder = await awaitRequest(indexedDB.open(databaseName, 2));
    const deletion = indexedDB.deleteDatabase(databaseName);
    await expect(open({ openTimeoutMs: 200 })).rejects.toMatchObject({
      code: 'STORAGE',
      message: expect.stringMatching(/no answer within 0\.2 s.*close the other tabs/),
    });
    holder.close();
    await awaitRequest(deletion);
  });

  it('is refused with a coded error where storage is blocked or missing', async () => {
    vi.spyOn(IDBFactory.prototype, 'open').mockImplementation(() => {
      throw new DOMException('access to the Indexed Database API is denied in this context', 'SecurityError');
    });
    await expect(openStore('indexeddb')).rejects.toMatchObject({
      code: 'STORAGE',
      message: expect.stringMatching(/opening database "webmoe" failed \(SecurityError.*use the memory store/),
    });
    vi.stubGlobal('indexedDB', undefined);
    await expect(openStore('indexeddb')).rejects.toMatchObject({ code: 'STORAGE' });
    vi.unstubAllGlobals();
  });

  it('says that storage is full, with usage and quota, and keeps what was there', async () => {
    const large = createBytes(16 * 2 ** 20);
    const before = await open();
    await before.writeRecords('a', [['small', createBytes(1000)]]);
    await before.close();
    const { usage = 0 } = await navigator.storage.estimate();
    await devtools.send('Storage.overrideQuotaForOrigin', { origin: location.origin, quotaSize: usage + 2 ** 20 });
    try {
      let refusal: unknown;
      for (let attempt = 0; attempt < 60 && refusal === undefined; attempt++) {
        // Chromium remembers the space that was left until an origin's last connection has been closed for 2 s
        await new Promise((resolve) => setTimeout(resolve, 2500));
        const store = await open();
        refusal = await store.writeRecords('a', [['large', large]]).catch((error: unknown) => error);
        await store.close();
      }
      expect(refusal).toMatchObject({
        code: 'STORAGE_FULL',
        message: expect.stringMatching(
          /writing 16777216 bytes of model a: browser storage is full \(used \d+ of an estimated quota of \d+ bytes\)/,
        ),
      });
    } finally {
      await devtools.send('Storage.overrideQuotaForOrigin', { origin: location.origin });
    }
    const store = await open();
    expect(await store.readRecord('a', 'small')).toEqual(createBytes(1000));
  });
});
