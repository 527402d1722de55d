import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { installModel } from '../../../src/store/install';
import { createMemorySource } from '../../../src/store/memory-source';
import type { ModelDraft } from '../../../src/store/model-store';
import { openStore } from '../../../src/store/open-store';
import { computeDigest } from '../../../src/store/record-digest';
import { readGoldenModel } from '../../golden';
import { openRemoteStore, type RemoteStore } from '../../opfs/remote-store';
import { createBytes, createManifest, describeModelStore } from '../../unit/store/store-contract';

let name = '';
let stores: RemoteStore[] = [];

async function open(): Promise<RemoteStore> {
  const store = await openRemoteStore(name);
  stores.push(store);
  return store;
}

async function getFolder(): Promise<FileSystemDirectoryHandle> {
  return (await navigator.storage.getDirectory()).getDirectoryHandle(name);
}

async function listFiles(): Promise<{ name: string; bytes: Uint8Array }[]> {
  const files: { name: string; bytes: Uint8Array }[] = [];
  for await (const handle of (await getFolder()).values()) {
    const file = await (handle as FileSystemFileHandle).getFile();
    files.push({ name: handle.name, bytes: new Uint8Array(await file.arrayBuffer()) });
  }
  return files;
}

function createDraft(modelId: string): ModelDraft {
  return {
    format: 1,
    modelId,
    name: `Model ${modelId}`,
    sourceBytes: 2 ** 20,
    neededBytes: 2 ** 20,
    records: 3,
    sourceName: 'https://example.org/m.gguf',
    sourceVersion: '"e"',
  };
}

beforeEach(() => {
  name = `webmoe-test-${crypto.randomUUID()}`;
  stores = [];
});

afterEach(async () => {
  vi.restoreAllMocks();
  for (const store of stores) await store.close();
  if (stores.length > 0) await (await navigator.storage.getDirectory()).removeEntry(name, { recursive: true });
  indexedDB.deleteDatabase(name);
});

describeModelStore('OPFS store', open);

describe('OPFS store', () => {
  const announced = [
    { key: 'page/1/0', sizeBytes: 5000 },
    { key: 'tensor/head', sizeBytes: 10 },
    { key: 'page/0/10', sizeBytes: 4096 },
    { key: 'page/0/9', sizeBytes: 1 },
  ];

  it('lays announced records out in one file of its final size, pages expert-major at blocks of 4 KiB', async () => {
    const store = await open();
    await store.writeDraft(createDraft('a'), announced);
    expect(await listFiles()).toEqual([{ name: 'a', bytes: new Uint8Array(5 * 4096) }]);
    await store.writeRecords(
      'a',
      announced.map(({ key, sizeBytes }, i) => [key, createBytes(sizeBytes, i + 1), `digest ${i}`]),
    );
    const [file] = await listFiles();
    // tensor/head, page/0/9, page/0/10, page/1/0
    for (const [i, block] of [3, 0, 2, 1].entries()) {
      const { sizeBytes } = announced[i] as (typeof announced)[number];
      expect(file?.bytes.subarray(block * 4096, block * 4096 + sizeBytes), `record ${i}`).toEqual(
        createBytes(sizeBytes, i + 1),
      );
    }
    for (const [i, { key, sizeBytes }] of announced.entries()) {
      expect(await store.readRecord('a', key)).toEqual(createBytes(sizeBytes, i + 1));
    }
  });

  it('has no record that was announced and is not written, and none that was removed', async () => {
    const store = await open();
    await store.writeDraft(createDraft('a'), announced);
    await expect(store.readRecord('a', 'page/0/9')).rejects.toMatchObject({ code: 'STORAGE' });
    await store.writeRecords('a', [['page/0/9', createBytes(1), 'aa']]);
    expect(await store.readRecord('a', 'page/0/9')).toEqual(createBytes(1));
    await store.removeRecords('a', ['page/0/9']);
    await expect(store.readRecord('a', 'page/0/9')).rejects.toMatchObject({ code: 'STORAGE' });
  });

  it('keeps a model for the next session, and for a second tab at the same time', async () => {
    const first = await open();
    await first.writeDraft(createDraft('a'), announced);
    await first.writeRecords('a', [['page/1/0', createBytes(5000), 'aa']]);
    await first.writeManifest(createManifest('a'));
    const second = await open();
    expect(await second.readModels()).toEqual([createManifest('a')]);
    expect(await second.readRecord('a', 'page/1/0')).toEqual(createBytes(5000));
    expect(await first.readRecord('a', 'page/1/0')).toEqual(createBytes(5000));
  });

  it.each(['NoModificationAllowedError', 'InvalidStateError'] as const)(
    'reads through the file itself, and does not write, while another tab has the only handle: %s',
    async (fault) => {
      const first = await open();
      await first.writeDraft(createDraft('a'), announced);
      await first.writeRecords('a', [['page/1/0', createBytes(5000), 'aa']]);
      const second = await open();
      await second.service.fail(fault, 2);
      expect(await second.readRecord('a', 'page/1/0')).toEqual(createBytes(5000));
      await expect(second.writeRecords('a', [['page/0/9', createBytes(1), 'bb']])).rejects.toMatchObject({
        code: 'STORAGE',
        message: expect.stringMatching(/open in 1 other tab.*close the other tabs/),
      });
      await second.writeRecords('a', [['page/0/9', createBytes(1), 'bb']]);
      expect(await second.readRecord('a', 'page/0/9')).toEqual(createBytes(1));
    },
  );

  it('removes a model with its file, and the file of a model whose removal a dying page did not end', async () => {
    const store = await open();
    await store.writeDraft(createDraft('a'), announced);
    await store.removeModel('a');
    expect(await listFiles()).toEqual([]);
    await (await getFolder()).getFileHandle('orphan', { create: true });
    await open();
    expect(await listFiles()).toEqual([]);
  });

  it('goes on when the space cannot be reserved, and is STORAGE_FULL when it cannot be written', async () => {
    const store = await open();
    await store.service.fail('QuotaExceededError', 1);
    await store.writeDraft(createDraft('a'), announced);
    await store.service.fail('QuotaExceededError', 1);
    const write = () => store.writeRecords('a', [['page/1/0', createBytes(5000), 'aa']]);
    await expect(write()).rejects.toMatchObject({
      code: 'STORAGE_FULL',
      message: expect.stringMatching(/writing 5000 bytes of model a: browser storage is full/),
    });
    expect((await store.readDigests('a')).size).toBe(0);
    await write();
    expect(await store.readRecord('a', 'page/1/0')).toEqual(createBytes(5000));
  });

  it('is refused with a coded error where there are no sync access handles, as in this page', async () => {
    await expect(openStore('opfs')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/dedicated workers.*use createEngine/),
    });
  });
});

describe('a model in the OPFS store', () => {
  it('has the records that its manifest names', async () => {
    const file = createMemorySource(await readGoldenModel('e5k1-gqa-q4_0'), 'tiny.gguf');
    const store = await open();
    const { manifest } = await installModel(file, store);
    for (const [key, digest] of Object.entries(manifest.digests)) {
      expect(await computeDigest(await store.readRecord(manifest.modelId, key)), key).toBe(digest);
    }
  });
});
