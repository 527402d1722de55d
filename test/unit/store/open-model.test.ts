/** Opening a model where the store fails, and what opening leaves behind: locks, headers, notes. */
import { setTimeout as wait } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { ByteSource } from '../../../src/checkpoint/byte-source';
import { EngineError } from '../../../src/errors';
import { installModel } from '../../../src/store/install';
import { findInstalled, openInstalled } from '../../../src/store/installed-copy';
import { createMemorySource } from '../../../src/store/memory-source';
import { createMemoryStore } from '../../../src/store/memory-store';
import type { ModelStore } from '../../../src/store/model-store';
import { openModel, removeModel } from '../../../src/store/open-model';
import { computeDigest } from '../../../src/store/record-digest';
import { tinyOlmoe, writeTinyOlmoe } from '../checkpoint/gguf-writer';
import { createLockTable } from './lock-table';

const bytes = writeTinyOlmoe(undefined, { ...tinyOlmoe, experts: 3 });
/** The file, as a server has it at some address. */
const at = (name: string, file: Uint8Array = bytes): ByteSource => ({
  ...createMemorySource(file, name),
  isRemote: true,
});
const { modelId, digests } = (await installModel(at('first'), createMemoryStore())).manifest;

/** A memory store that calls itself a browser's, and says under which ids it has something. */
function createWatchedStore() {
  const ids = new Set<string>();
  const log = { error: null as EngineError | null };
  const memory = createMemoryStore();
  const write =
    <A extends unknown[]>(call: (id: string, ...rest: A) => Promise<void>) =>
    async (id: string, ...rest: A) => {
      if (log.error) throw log.error;
      ids.add(id);
      await call(id, ...rest);
    };
  const store: ModelStore = {
    ...memory,
    kind: 'indexeddb',
    writeRecords: write(memory.writeRecords),
    writeState: write(memory.writeState),
    writeDraft: (draft) => write(() => memory.writeDraft(draft))(draft.modelId),
    async removeModel(id) {
      ids.delete(id);
      await memory.removeModel(id);
    },
  };
  return { store, ids, log };
}

afterEach(() => {
  vi.unstubAllGlobals();
});

describe('a full store', () => {
  const full = new EngineError('STORAGE_FULL', 'the disk is full');

  it('does not stop a model that is not installed: it is read from its source, and the install says what is missing', async () => {
    const { store, ids, log } = createWatchedStore();
    const { locks, held } = createLockTable();
    vi.stubGlobal('navigator', { locks });
    log.error = full;
    const warnings: string[] = [];
    const onWarning = (message: string) => warnings.push(message);
    const model = await openModel(at('first'), store, { request: 'first', onWarning });
    expect(warnings).toEqual([expect.stringMatching(/headers of first are not kept.*the disk is full/)]);
    expect(model.isNew).toBe(false);
    for (const key of Object.keys(digests)) {
      expect(await computeDigest(await model.records.read(key)), key).toBe(digests[key]);
    }
    const refusal = {
      code: 'STORAGE_FULL',
      message: expect.stringMatching(/needs \d+ bytes of storage, 0 of them are written.*the disk is full/),
    };
    await expect(model.finish()).rejects.toMatchObject(refusal);
    await model.close();
    await expect(installModel(at('first'), store)).rejects.toMatchObject(refusal);
    expect([...held, ...ids]).toEqual([]);
  });

  it('does not stop a model that is installed and is reached by another address, which is said', async () => {
    const { store, log } = createWatchedStore();
    await installModel(at('first'), store);
    log.error = full;
    const warnings: string[] = [];
    const onWarning = (message: string) => warnings.push(message);
    const model = await openModel(at('second'), store, { request: 'second', onWarning });
    expect(warnings).toEqual([
      expect.stringMatching(/headers of second are not kept/),
      expect.stringMatching(/where "tiny" came from is not noted.*the disk is full/),
    ]);
    for (const key of Object.keys(digests)) await model.records.read(key);
    expect(model.records.counters).toMatchObject({ storeReads: Object.keys(digests).length, sourceReads: 0 });
    await model.close();
    expect(await findInstalled(store, 'second')).toBeNull();
  });

  it('that is not full but broken still says so where an install begins', async () => {
    const { store, ids, log } = createWatchedStore();
    log.error = new EngineError('STORAGE', 'the disk is broken');
    await expect(openModel(at('first'), store)).rejects.toMatchObject({
      code: 'STORAGE',
      message: 'the disk is broken',
    });
    expect([...ids]).toEqual([]);
  });
});

describe('the lock of a model', () => {
  /** `locks.request` ends in later turns than whoever let go of the lock. */
  const expectNoneHeld = async (held: Set<unknown>) => {
    await wait(0);
    expect([...held]).toEqual([]);
  };

  it.each([1, 2])('is let go when manifest %i cannot be read', async (failing) => {
    const { store } = createWatchedStore();
    await installModel(at('first'), store);
    const { locks, held } = createLockTable();
    vi.stubGlobal('navigator', { locks });
    let reads = 0;
    const broken: ModelStore = {
      ...store,
      async readManifest(id) {
        if (++reads === failing) throw new EngineError('STORAGE', 'unreadable');
        return store.readManifest(id);
      },
    };
    await expect(openModel(at('first'), broken)).rejects.toMatchObject({ message: 'unreadable' });
    await expectNoneHeld(held);
    await removeModel(store, modelId);
  });

  it('is let go when an installed model cannot be opened without its source', async () => {
    const { store } = createWatchedStore();
    const { manifest } = await installModel(at('first'), store);
    const { locks, held } = createLockTable();
    vi.stubGlobal('navigator', { locks });
    const broken: ModelStore = {
      ...store,
      async readManifest() {
        throw new EngineError('STORAGE', 'unreadable');
      },
    };
    const reason = new EngineError('NETWORK', 'down');
    await expect(openInstalled(broken, manifest, reason, undefined)).rejects.toMatchObject({ message: 'unreadable' });
    await expectNoneHeld(held);
  });

  it('is let go, and the store with it, when a model is refused or cannot be closed', async () => {
    const { store } = createWatchedStore();
    const { locks, held } = createLockTable();
    vi.stubGlobal('navigator', { locks });
    const release = vi.fn(store.release);
    const onPlan = () => {
      throw new EngineError('UNSUPPORTED', 'not this one');
    };
    await expect(openModel(at('first'), { ...store, release }, { onPlan })).rejects.toMatchObject({
      message: 'not this one',
    });
    expect(release).toHaveBeenCalledWith(modelId);
    await expectNoneHeld(held);
    release.mockRejectedValue(new EngineError('STORAGE', 'stuck'));
    const model = await openModel(at('first'), { ...store, release });
    expect(held.size).toBe(1);
    await expect(model.close()).rejects.toMatchObject({ message: 'stuck' });
    await expectNoneHeld(held);
  });
});

describe('what is kept beside a model', () => {
  it('goes with it, from whatever addresses it was opened', async () => {
    const { store, ids } = createWatchedStore();
    for (const name of ['first', 'second', 'third']) {
      const model = await openModel(at(name), store, { request: name });
      await model.finish();
      await model.close();
    }
    expect((await findInstalled(store, 'third'))?.modelId).toBe(modelId);
    // Headers and requests of three addresses.
    expect(ids.size).toBe(7);
    await removeModel(store, modelId);
    expect([...ids]).toEqual([]);
  });

  it('goes with it also when its install began anew in between', async () => {
    const { store, ids } = createWatchedStore();
    await (await openModel(at('first'), store, { request: 'first' })).close();
    await (await openModel({ ...at('second'), version: '"new"' }, store, { request: 'second' })).close();
    expect(ids.size).toBe(5);
    await removeModel(store, modelId);
    expect([...ids]).toEqual([]);
  });

  it('stays where the request leads to another model by now, and goes with that one', async () => {
    const { store, ids } = createWatchedStore();
    const open = async (source: ByteSource) => {
      const model = await openModel(source, store, { request: 'the address' });
      await model.finish();
      await model.close();
      return model.plan.modelId;
    };
    await open(at('first'));
    const newer = await open(at('first', writeTinyOlmoe(undefined, { ...tinyOlmoe, experts: 4 })));
    expect(newer).not.toBe(modelId);
    await removeModel(store, modelId);
    expect((await findInstalled(store, 'the address'))?.modelId).toBe(newer);
    await removeModel(store, newer);
    expect([...ids]).toEqual([]);
  });

  it('is not kept of a file that is refused', async () => {
    const { store, ids } = createWatchedStore();
    const cut = at('cut', bytes.subarray(0, bytes.byteLength - 1));
    await expect(openModel(cut, store)).rejects.toMatchObject({ code: 'BAD_FILE' });
    const other = writeTinyOlmoe(({ entries }) => {
      entries[0] = ['general.architecture', 'string', 'unheard-of'];
    });
    await expect(openModel(at('other', other), store)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    const onPlan = () => {
      throw new EngineError('UNSUPPORTED', 'no tokenizer');
    };
    await expect(openModel(at('first'), store, { onPlan })).rejects.toMatchObject({ message: 'no tokenizer' });
    expect([...ids]).toEqual([]);
  });
});
