import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ByteSource } from '../../../src/checkpoint/byte-source';
import { createBlobSource } from '../../../src/store/blob-source';
import { openIndexedDbStore } from '../../../src/store/indexeddb-store';
import { type InstallResult, installModel } from '../../../src/store/install';
import { createMemoryStore } from '../../../src/store/memory-store';
import type { ModelStore } from '../../../src/store/model-store';
import { createVerifiedReader } from '../../../src/store/verified-reader';
import goldenUrl from '../../golden/e5k1-gqa-q4_0.gguf.gz?url';
import { openRemoteStore } from '../../opfs/remote-store';

let databaseName = '';
let stores: ModelStore[] = [];

async function open(kind: 'indexeddb' | 'opfs'): Promise<ModelStore> {
  const store = await (kind === 'opfs' ? openRemoteStore(databaseName) : openIndexedDbStore({ databaseName }));
  stores.push(store);
  return store;
}

/** The golden model file; a server may have unpacked the gzip on the way. */
async function readGolden(): Promise<File> {
  const packed = await (await fetch(goldenUrl)).blob();
  const magic = new Uint8Array(await packed.slice(0, 2).arrayBuffer());
  const isGzip = magic[0] === 0x1f && magic[1] === 0x8b;
  const stream = isGzip ? packed.stream().pipeThrough(new DecompressionStream('gzip')) : packed.stream();
  return new File([await new Response(stream).blob()], 'tiny.gguf');
}

beforeEach(() => {
  databaseName = `webmoe-test-${crypto.randomUUID()}`;
  stores = [];
});

afterEach(async () => {
  for (const store of stores) await store.close();
  indexedDB.deleteDatabase(databaseName);
});

describe.each(['indexeddb', 'opfs'] as const)('installModel into %s', (kind) => {
  it('gives the same records as an install into memory, also in the next session', async () => {
    const source = createBlobSource(await readGolden(), 'tiny.gguf');
    const memory = createMemoryStore();
    const reference = await installModel(source, memory);
    const first = await open(kind);
    const { manifest, installed } = await installModel(source, first, { batchBytes: 8192 });
    expect(installed).toBe(true);
    expect(manifest).toEqual(reference.manifest);
    await first.close();
    const second = await open(kind);
    expect(await second.readModels()).toEqual([manifest]);
    const reader = createVerifiedReader(second, manifest);
    for (const key of Object.keys(manifest.digests)) {
      expect(await reader.read(key), key).toEqual(await memory.readRecord(manifest.modelId, key));
    }
    expect(await installModel(source, second)).toEqual({ manifest, installed: false });
  });

  it('lets one of two tabs install, and the other find the model', async () => {
    const source = createBlobSource(await readGolden(), 'tiny.gguf');
    let isLocked = false;
    let told = (_warning: string) => {};
    const warned = new Promise<string>((resolve) => {
      told = resolve;
    });
    // The first tab reads no record before the second has said that it waits, however quick either is.
    const held: ByteSource = {
      ...source,
      async read(...range) {
        if (isLocked) await warned;
        return source.read(...range);
      },
    };
    const tabs = [await open(kind), await open(kind)] as const;
    let first: Promise<InstallResult> | undefined;
    await new Promise<void>((resolve, reject) => {
      const onPlan = () => {
        isLocked = true;
        resolve();
      };
      first = installModel(held, tabs[0], { batchBytes: 8192, onPlan });
      first.catch(reject);
    });
    const second = installModel(source, tabs[1], { batchBytes: 8192, onWarning: told });
    expect(await warned).toMatch(/being installed by another tab.*waiting/);
    expect(await first).toMatchObject({ installed: true });
    expect(await second).toEqual({ manifest: (await first)?.manifest, installed: false });
  });

  it('waits for another tab only until it is aborted', async () => {
    const source = createBlobSource(await readGolden(), 'tiny.gguf');
    const { manifest } = await installModel(source, createMemoryStore());
    const controller = new AbortController();
    await navigator.locks.request(`webmoe/model/${kind}/${manifest.modelId}`, async () => {
      const waiting = installModel(source, await open(kind), {
        signal: controller.signal,
        onWarning: () => setTimeout(() => controller.abort(), 20),
      });
      await expect(waiting).rejects.toMatchObject({ code: 'ABORTED' });
    });
    expect(await (await open(kind)).readModels()).toEqual([]);
  });
});
