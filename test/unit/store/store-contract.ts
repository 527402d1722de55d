/** What every store does, as tests that each store's own test file runs. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ModelManifest } from '../../../src/checkpoint/manifest';
import type { ModelDraft, ModelStore } from '../../../src/store/model-store';

export function createManifest(modelId: string, format = 4): ModelManifest {
  return {
    format,
    modelId,
    name: `Model ${modelId}`,
    sourceBytes: 2 ** 33,
    config: { architecture: 'olmoe', moeLayers: [0, 1] },
    tokenizer: { tokens: ['\u0000', 'é', '🦜'], scores: null },
    resident: [],
    pageLayouts: [],
    digests: { 'page/0/0': 'ab' },
  } as unknown as ModelManifest;
}

export function createBytes(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let i = 0, x = seed; i < length; i++) {
    x = (x * 1_103_515_245 + 12_345) >>> 0;
    bytes[i] = x >>> 24;
  }
  return bytes;
}

function createDraft(modelId: string): ModelDraft {
  return {
    format: 1,
    modelId,
    name: `Model ${modelId}`,
    sourceBytes: 2 ** 33,
    neededBytes: 2 ** 33 - 1,
    records: 5,
    sourceName: 'https://example.org/m.gguf',
    sourceVersion: '"e"',
  };
}

/** `open` opens the same empty store again and again where the kind outlives its handle. */
export function describeModelStore(name: string, open: () => Promise<ModelStore>): void {
  describe(`${name} (store contract)`, () => {
    let store: ModelStore;
    beforeEach(async () => {
      store = await open();
    });
    afterEach(async () => {
      await store.close();
    });

    it.each([0, 1, 65_537, 8 * 2 ** 20])('gives a record of %i bytes back as it was written', async (length) => {
      const bytes = createBytes(length);
      await store.writeRecords('a', [['page/0/0', bytes]]);
      expect(equalBytes(await store.readRecord('a', 'page/0/0'), bytes)).toBe(true);
    });

    it('writes only the bytes of a view, not the buffer behind it', async () => {
      const buffer = createBytes(100);
      await store.writeRecords('a', [['k', buffer.subarray(10, 20)]]);
      expect(await store.readRecord('a', 'k')).toEqual(buffer.slice(10, 20));
    });

    it('shares no memory with those who write and read', async () => {
      const bytes = createBytes(16);
      await store.writeRecords('a', [['k', bytes]]);
      bytes.fill(0);
      (await store.readRecord('a', 'k')).fill(1);
      expect(await store.readRecord('a', 'k')).toEqual(createBytes(16));
    });

    it('gives a record into memory of its size, where it can, and into no other', async () => {
      const bytes = createBytes(65_540);
      await store.writeDraft(createDraft('a'), [{ key: 'page/0/0', sizeBytes: bytes.byteLength }]);
      await store.writeRecords('a', [['page/0/0', bytes, 'ab']]);
      const readInto = async (key: string, sizeBytes: number) => {
        const target = new Uint8Array(sizeBytes + 8);
        const isRead = await store.readRecordInto?.('a', key, target.subarray(4, 4 + sizeBytes));
        return isRead && target;
      };
      const read = await readInto('page/0/0', bytes.byteLength);
      expect(read === undefined).toBe(store.kind === 'indexeddb');
      if (!read) return;
      expect(equalBytes(read.subarray(4, -4), bytes)).toBe(true);
      expect([...read.subarray(0, 4), ...read.subarray(-4)]).toEqual(Array(8).fill(0));
      for (const other of [bytes.byteLength - 1, bytes.byteLength + 1, 0]) {
        expect(await readInto('page/0/0', other)).toBe(false);
      }
      expect(await readInto('page/0/1', 4)).toBe(false);
      await store.removeRecords('a', ['page/0/0']);
      expect(await readInto('page/0/0', bytes.byteLength)).toBe(false);
    });

    it('replaces a record that is written again', async () => {
      await store.writeRecords('a', [['k', createBytes(16, 1)]]);
      await store.writeRecords('a', [['k', createBytes(9, 2)]]);
      expect(await store.readRecord('a', 'k')).toEqual(createBytes(9, 2));
    });

    it('reads many records at once', async () => {
      const records = Array.from({ length: 50 }, (_, i) => [`page/0/${i}`, createBytes(1000, i)] as const);
      await store.writeRecords('a', records);
      const read = await Promise.all(records.map(([key]) => store.readRecord('a', key)));
      expect(read).toEqual(records.map(([, bytes]) => bytes));
    });

    it('says which record of which model is missing', async () => {
      await store.writeRecords('a', [['k', createBytes(1)]]);
      for (const [modelId, key] of [
        ['a', 'page/9/9'],
        ['b', 'k'],
      ] as const) {
        await expect(store.readRecord(modelId, key)).rejects.toMatchObject({
          name: 'EngineError',
          code: 'STORAGE',
          message: expect.stringMatching(new RegExp(`"${key}" of model ${modelId}.*install it again`)),
        });
      }
    });

    it('has no model before its manifest is written', async () => {
      await store.writeRecords('a', [['k', createBytes(10)]]);
      expect(await store.readModels()).toEqual([]);
      expect(await store.readManifest('a')).toBeUndefined();
      await store.writeManifest(createManifest('a'));
      expect(await store.readModels()).toEqual([createManifest('a')]);
      expect(await store.readManifest('a')).toEqual(createManifest('a'));
    });

    it('does not count a manifest of another format as a model', async () => {
      await store.writeManifest(createManifest('old', 0));
      await store.writeManifest(createManifest('new'));
      expect(await store.readManifest('old')).toBeUndefined();
      expect((await store.readModels()).map(({ modelId }) => modelId)).toEqual(['new']);
    });

    it('keeps models apart and removes one whole', async () => {
      // names that a careless key range would mix up
      const ids = ['a', 'a/b', 'ab', 'a\uffff'];
      for (const id of ids) {
        await store.writeRecords(id, [
          ['k', createBytes(8, id.length)],
          ['\uffff', createBytes(1)],
        ]);
        await store.writeManifest(createManifest(id));
      }
      await store.removeModel('a');
      expect((await store.readModels()).map(({ modelId }) => modelId).sort()).toEqual(['a/b', 'ab', 'a\uffff']);
      await expect(store.readRecord('a', 'k')).rejects.toMatchObject({ code: 'STORAGE' });
      await expect(store.readRecord('a', '\uffff')).rejects.toMatchObject({ code: 'STORAGE' });
      for (const id of ids.slice(1)) expect(await store.readRecord(id, 'k')).toEqual(createBytes(8, id.length));
    });

    it('notes digests with records, and forgets both together', async () => {
      await store.writeRecords('a', [
        ['page/0/0', createBytes(4), 'aa'],
        ['page/0/1', createBytes(4)],
        ['page/1/0', createBytes(4), 'bb'],
      ]);
      await store.writeRecords('ab', [['page/0/0', createBytes(4), 'cc']]);
      await store.writeRecords('a', [['page/1/0', createBytes(5), 'dd']]);
      expect(await store.readDigests('a')).toEqual(
        new Map([
          ['page/0/0', 'aa'],
          ['page/1/0', 'dd'],
        ]),
      );
      await store.removeRecords('a', ['page/1/0', 'never there']);
      expect([...(await store.readDigests('a')).keys()]).toEqual(['page/0/0']);
      await expect(store.readRecord('a', 'page/1/0')).rejects.toMatchObject({ code: 'STORAGE' });
      await store.removeModel('a');
      expect((await store.readDigests('a')).size).toBe(0);
      expect([...(await store.readDigests('ab')).values()]).toEqual(['cc']);
    });

    it('keeps the draft of an install until it is committed or removed', async () => {
      expect(await store.readDraft('a')).toBeUndefined();
      await store.writeDraft(createDraft('a'));
      await store.writeDraft(createDraft('b'));
      expect(await store.readDraft('a')).toEqual(createDraft('a'));
      expect(await store.readModels()).toEqual([]);
      await store.writeManifest(createManifest('a'));
      expect(await store.readDrafts()).toEqual([createDraft('b')]);
      await store.removeModel('b');
      expect(await store.readDrafts()).toEqual([]);
    });

    it('removes what an unfinished install left, and nothing where there is nothing', async () => {
      await store.writeRecords('a', [['k', createBytes(10)]]);
      await store.removeModel('a');
      await store.removeModel('never seen');
      await expect(store.readRecord('a', 'k')).rejects.toMatchObject({ code: 'STORAGE' });
    });

    it('refuses every use after it was closed', async () => {
      await store.close();
      for (const use of [
        () => store.readModels(),
        () => store.readManifest('a'),
        () => store.writeManifest(createManifest('a')),
        () => store.readRecord('a', 'k'),
        () => store.writeRecords('a', []),
        () => store.removeModel('a'),
      ]) {
        await expect(use()).rejects.toMatchObject({ code: 'STORAGE', message: expect.stringMatching(/closed; open/) });
      }
    });
  });
}

/** Much faster than a deep comparison, which matters for megabytes. */
function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && a.every((byte, i) => byte === b[i]);
}
