/** Records that are kept in parts while they come, where the store has no room, or may not take them, or forgets to remove them. */
import { expect, it } from 'vitest';
import type { ByteSource } from '../../../src/checkpoint/byte-source';
import { EngineError } from '../../../src/errors';
import { createMemorySource } from '../../../src/store/memory-source';
import { createMemoryStore } from '../../../src/store/memory-store';
import type { ModelStore } from '../../../src/store/model-store';
import { openModel } from '../../../src/store/open-model';
import { computeDigest } from '../../../src/store/record-digest';
import { large } from './faulty-hub';

const MIB = 1024 * 1024;
const { modelId } = large.plan;
const pages = large.plan.records.flatMap(({ key, sizeBytes }) => (key.startsWith('page/') ? [{ key, sizeBytes }] : []));
const source = createMemorySource(large.bytes, 'large.gguf');

/** A store that runs `before` ahead of each write of this model's records, and notes what it held at most. */
function createWatchedStore(before: (keys: readonly string[]) => void = () => {}) {
  const memory = createMemoryStore();
  const held = new Map<string, number>();
  const log = { mostBytes: 0 };
  const store: ModelStore = {
    ...memory,
    async writeRecords(id, records) {
      before(records.map(([key]) => key));
      await memory.writeRecords(id, records);
      for (const [key, bytes] of records) held.set(key, bytes.byteLength);
      log.mostBytes = Math.max(
        log.mostBytes,
        [...held.values()].reduce((sum, bytes) => sum + bytes, 0),
      );
    },
    async removeRecords(id, keys) {
      await memory.removeRecords(id, keys);
      for (const key of keys) held.delete(key);
    },
  };
  return { store, memory, held, log };
}

const full = () => new EngineError('STORAGE_FULL', 'no room');
const listParts = async (store: ModelStore) =>
  [...(await store.readDigests(modelId)).keys()].filter((key) => key.startsWith('part/'));

it.each([
  ['from the beginning', () => true],
  ['from the third part on', (keys: readonly string[], write: number) => write > 2 || !keys[0]?.startsWith('part/')],
  ['for whole records', (keys: readonly string[]) => !keys[0]?.startsWith('part/')],
])('a store that is full %s: a large page is read all the same, each time, and leaves nothing', async (_, isFull) => {
  let writes = 0;
  const { store, held } = createWatchedStore((keys) => {
    if (isFull(keys, ++writes)) throw full();
  });
  const { records, close } = await open(store);
  for (const { key } of [...pages, ...pages]) {
    expect(await computeDigest(await records.read(key)), key).toBe(large.digests[key]);
  }
  await expect(records.fill(pages.map(({ key }) => key))).rejects.toMatchObject({
    code: 'STORAGE_FULL',
    message: expect.stringMatching(/needs \d+ bytes of storage, 0 of them are written.*no room/),
  });
  await close();
  expect([...held.keys()]).toEqual([]);
});

it.each([
  [1, 0],
  [7, 1],
  [13, 2],
  [64, pages.length],
])('a budget of %i MiB holds at every moment, and %i large pages are kept', async (budget, kept) => {
  const { store, memory, held, log } = createWatchedStore();
  const { records, close } = await open(store, { storeBudgetBytes: budget * MIB });
  for (const { key } of pages) expect(await computeDigest(await records.read(key))).toBe(large.digests[key]);
  await close();
  expect(log.mostBytes).toBeLessThanOrEqual(budget * MIB);
  expect([...held.keys()]).toEqual(pages.slice(0, kept).map(({ key }) => key));
  const bytes = pages.slice(0, kept).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  expect(records.storedBytes).toBe(bytes);
  expect(await listParts(memory)).toEqual([]);
});

it('parts of a page that died before it removed them are gone when the model is installed', async () => {
  const { store, memory } = createWatchedStore();
  const dying: ModelStore = {
    ...store,
    async removeRecords() {
      throw new EngineError('STORAGE', 'the page is gone');
    },
  };
  const [page] = pages as [(typeof pages)[0]];
  const first = await open(dying);
  await first.records.fill([page.key]);
  await first.close();
  expect(await listParts(memory)).toHaveLength(6);
  const second = await open(store);
  await second.records.finish();
  await second.close();
  expect(await listParts(memory)).toEqual([]);
  expect((await memory.readManifest(modelId))?.digests).toEqual(large.digests);
});

it('bytes that are not those that were lost are not kept in parts either', async () => {
  const { store, memory } = createWatchedStore();
  const [{ key }] = pages as [(typeof pages)[0]];
  const range = large.plan.records.find((record) => record.key === key)?.sourceRanges[0];
  let isOther = false;
  const edited: ByteSource = {
    ...source,
    async read(offsetBytes, lengthBytes, signal) {
      const bytes = (await source.read(offsetBytes, lengthBytes, signal)).slice();
      if (isOther && offsetBytes === range?.offsetBytes) bytes[100] = (bytes[100] ?? 0) ^ 1;
      return bytes;
    },
  };
  const { records, close } = await open(store, {}, edited);
  await records.fill([key]);
  await memory.removeRecords(modelId, [key]);
  isOther = true;
  await expect(records.read(key)).rejects.toMatchObject({ message: expect.stringMatching(/had SHA-256 .* now gives/) });
  isOther = false;
  expect(await computeDigest(await records.read(key))).toBe(large.digests[key]);
  await close();
  expect(await listParts(memory)).toEqual([]);
  expect(await computeDigest(await memory.readRecord(modelId, key))).toBe(large.digests[key]);
});

async function open(store: ModelStore, options: { readonly storeBudgetBytes?: number } = {}, from = source) {
  const model = await openModel(from, store, options);
  return { records: model.records, close: () => model.close() };
}
