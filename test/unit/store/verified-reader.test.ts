import { describe, expect, it } from 'vitest';
import { createMemoryStore } from '../../../src/store/memory-store';
import type { ModelStore } from '../../../src/store/model-store';
import { computeDigest } from '../../../src/store/record-digest';
import { createVerifiedReader } from '../../../src/store/verified-reader';
import { createBytes, createManifest } from './store-contract';

/** A store with one model of one intact record, and the number of reads that reached it. */
async function createModel() {
  const memory = createMemoryStore();
  let reads = 0;
  const store: ModelStore = {
    ...memory,
    readRecord(modelId, key) {
      reads++;
      return memory.readRecord(modelId, key);
    },
  };
  const bytes = createBytes(1000);
  const manifest = { ...createManifest('a'), digests: { 'page/0/0': await computeDigest(bytes) } };
  await store.writeRecords('a', [['page/0/0', bytes]]);
  return { store, manifest, bytes, getReads: () => reads };
}

describe('createVerifiedReader', () => {
  it('computes SHA-256 as the standard has it', async () => {
    expect(await computeDigest(new TextEncoder().encode('abc'))).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
  });

  it('gives intact records, and reads them again each time', async () => {
    const { store, manifest, bytes, getReads } = await createModel();
    const reader = createVerifiedReader(store, manifest);
    expect(await reader.read('page/0/0')).toEqual(bytes);
    expect(await reader.read('page/0/0')).toEqual(bytes);
    expect(getReads()).toBe(2);
  });

  it('refuses a record with one changed bit, each time, and names model, record and remedy', async () => {
    const { store, manifest, bytes } = await createModel();
    bytes[500]! ^= 1;
    await store.writeRecords('a', [['page/0/0', bytes]]);
    const reader = createVerifiedReader(store, manifest);
    for (let i = 0; i < 2; i++) {
      await expect(reader.read('page/0/0')).rejects.toMatchObject({
        code: 'CORRUPT',
        message: expect.stringMatching(/"page\/0\/0" of model "Model a" \(a\).*remove the model and install it again/),
      });
    }
  });

  it('refuses a truncated record and one that the manifest does not know', async () => {
    const { store, manifest, bytes } = await createModel();
    await store.writeRecords('a', [
      ['page/0/0', bytes.subarray(1)],
      ['toString', bytes],
    ]);
    const reader = createVerifiedReader(store, manifest);
    await expect(reader.read('page/0/0')).rejects.toMatchObject({ code: 'CORRUPT' });
    await expect(reader.read('toString')).rejects.toMatchObject({ code: 'CORRUPT' });
    await expect(reader.read('missing')).rejects.toMatchObject({ code: 'STORAGE' });
  });

  it('trusts a record after its first read in the session, and checks it again in the next', async () => {
    const { store, manifest, bytes } = await createModel();
    const reader = createVerifiedReader(store, manifest);
    await reader.read('page/0/0');
    const changed = bytes.slice().fill(7);
    await store.writeRecords('a', [['page/0/0', changed]]);
    expect(await reader.read('page/0/0')).toEqual(changed);
    await expect(createVerifiedReader(store, manifest).read('page/0/0')).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  it('shares one read among overlapping reads of a record', async () => {
    const { store, manifest, getReads } = await createModel();
    const reader = createVerifiedReader(store, manifest);
    const [a, b, c] = await Promise.all([1, 2, 3].map(() => reader.read('page/0/0')));
    expect(getReads()).toBe(1);
    expect(a).toBe(b);
    expect(b).toBe(c);
  });
});
