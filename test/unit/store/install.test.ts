import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { ByteSource } from '../../../src/checkpoint/byte-source';
import { readGgufFile } from '../../../src/checkpoint/gguf';
import { buildInstallPlan } from '../../../src/checkpoint/install-plan';
import { EngineError } from '../../../src/errors';
import { createBlobSource } from '../../../src/store/blob-source';
import { openHttpSource } from '../../../src/store/http-source';
import { installModel } from '../../../src/store/install';
import { createMemorySource } from '../../../src/store/memory-source';
import { createMemoryStore } from '../../../src/store/memory-store';
import type { ModelStore } from '../../../src/store/model-store';
import { toStorageError } from '../../../src/store/storage-errors';
import { createVerifiedReader } from '../../../src/store/verified-reader';
import { type FaultServer, reset, startFaultServer, status } from './fault-server';

const golden = new URL('../../golden/e5k1-gqa-q4_0.gguf.gz', import.meta.url);
const file = new Uint8Array(gunzipSync(readFileSync(golden)));
const source = createMemorySource(file, 'tiny.gguf');
const plan = buildInstallPlan(await readGgufFile(source));
/** Small enough that this file needs many writes. */
const SMALL_BATCHES = { batchBytes: 8192 };

/** A memory store that runs `before` ahead of each write, and says what it holds. */
function createWatchedStore(before: (write: number) => Promise<void> | void = () => undefined) {
  const memory = createMemoryStore();
  const log = { writes: 0, keys: new Set<string>() };
  const store: ModelStore = {
    ...memory,
    async writeRecords(modelId, records) {
      await before(++log.writes);
      await memory.writeRecords(modelId, records);
      for (const [key] of records) log.keys.add(key);
    },
    async writeManifest(manifest) {
      await before(++log.writes);
      await memory.writeManifest(manifest);
    },
  };
  return { store, memory, log };
}

/** The source of the tests, noting what of it is read. */
function createWatchedSource(before: (read: number) => void = () => undefined) {
  const reads: { offsetBytes: number; lengthBytes: number }[] = [];
  const watched: ByteSource = {
    ...source,
    async read(offsetBytes, lengthBytes, signal) {
      before(reads.push({ offsetBytes, lengthBytes }));
      return source.read(offsetBytes, lengthBytes, signal);
    },
  };
  return { watched, reads };
}

/** No model yet; what the store has goes into the next install, which reads no byte of it again. */
async function expectContinued(store: ModelStore): Promise<void> {
  expect(await store.readModels()).toEqual([]);
  const kept = new Set((await store.readDigests(plan.modelId)).keys());
  const { watched, reads } = createWatchedSource();
  expect((await installModel(watched, store, SMALL_BATCHES)).installed).toBe(true);
  await expectWholeModel(store);
  // Header and samples are read by every plan.
  const planReads = createWatchedSource();
  await readGgufFile(planReads.watched);
  const again = reads.slice(planReads.reads.length);
  for (const { key, sourceRanges } of plan.records) {
    for (const range of kept.has(key) ? sourceRanges : []) {
      const isRead = again.some(
        (read) =>
          read.offsetBytes < range.offsetBytes + range.lengthBytes &&
          range.offsetBytes < read.offsetBytes + read.lengthBytes,
      );
      // Gaps of up to 4 KiB are read across; records of the golden model can be that small.
      if (range.lengthBytes > 4096) expect(isRead, `${key} at ${range.offsetBytes}`).toBe(false);
    }
  }
}

async function expectWholeModel(store: ModelStore): Promise<void> {
  const [manifest, ...others] = await store.readModels();
  expect(others).toEqual([]);
  const reader = createVerifiedReader(store, manifest!);
  expect(Object.keys(manifest!.digests).sort()).toEqual(plan.records.map(({ key }) => key).sort());
  for (const record of plan.records) {
    const ranges = record.sourceRanges.map((range) =>
      file.slice(range.offsetBytes, range.offsetBytes + range.lengthBytes),
    );
    expect(Buffer.compare(await reader.read(record.key), await record.pack(ranges)), record.key).toBe(0);
  }
}

const servers: FaultServer[] = [];
afterEach(async () => {
  vi.unstubAllGlobals();
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

describe('installModel', () => {
  it.each([8192, 100_000, undefined])('stores every record of the plan, in batches of %s bytes', async (batchBytes) => {
    const store = createMemoryStore();
    const { manifest, installed } = await installModel(source, store, { batchBytes });
    expect(installed).toBe(true);
    expect(await store.readManifest(plan.modelId)).toEqual(manifest);
    expect(manifest).toMatchObject({ format: 4, modelId: plan.modelId, sourceBytes: file.byteLength });
    await expectWholeModel(store);
  });

  it('reads only the header of a model that is installed', async () => {
    const store = createMemoryStore();
    const first = await installModel(source, store);
    let readBytes = 0;
    const watched: ByteSource = {
      ...source,
      read(offsetBytes, lengthBytes, signal) {
        readBytes = Math.max(readBytes, offsetBytes + lengthBytes);
        return source.read(offsetBytes, lengthBytes, signal);
      },
    };
    const write = vi.spyOn(store, 'writeRecords');
    expect(await installModel(watched, store)).toEqual({ manifest: first.manifest, installed: false });
    expect(write).not.toHaveBeenCalled();
  });

  it('reports bytes of the file that never go back and reach the total at the commit', async () => {
    const { store, memory } = createWatchedStore();
    const done: number[] = [];
    await installModel(source, store, {
      ...SMALL_BATCHES,
      onProgress: async ({ doneBytes, totalBytes }) => {
        done.push(doneBytes);
        expect(totalBytes).toBe(file.byteLength);
        if (doneBytes === totalBytes) expect(await memory.readModels()).toHaveLength(1);
      },
    });
    expect(done.length).toBeGreaterThan(5);
    expect(done).toEqual([...done].sort((a, b) => a - b));
    expect(done.filter((bytes) => bytes === file.byteLength)).toHaveLength(1);
    expect(done.at(-1)).toBe(file.byteLength);
  });

  it('keeps what was written when any write fails, and the next install continues it', async () => {
    const clean = createWatchedStore();
    const { manifest } = await installModel(source, clean.store, SMALL_BATCHES);
    expect(clean.log.writes).toBeGreaterThan(5);
    for (let failing = 1; failing <= clean.log.writes; failing++) {
      const { store, memory, log } = createWatchedStore((write) => {
        if (write === failing) throw new EngineError('STORAGE', 'disk error');
      });
      await expect(installModel(source, store, SMALL_BATCHES)).rejects.toMatchObject({
        code: 'STORAGE',
        message: 'disk error',
      });
      expect([...(await memory.readDigests(plan.modelId)).keys()].sort()).toEqual([...log.keys].sort());
      await expectContinued(memory);
      expect((await memory.readManifest(plan.modelId))?.digests).toEqual(manifest.digests);
    }
  });

  it('begins anew when the file is another version, and says so', async () => {
    const { store, memory } = createWatchedStore((write) => {
      if (write === 4) throw new EngineError('STORAGE', 'killed');
    });
    const first: ByteSource = { ...source, version: '"first"' };
    await expect(installModel(first, store, SMALL_BATCHES)).rejects.toMatchObject({ message: 'killed' });
    await memory.writeRecords(plan.modelId, [['of the older version', new Uint8Array(1), 'ab']]);
    const warnings: string[] = [];
    const second: ByteSource = { ...source, version: '"second"' };
    await installModel(second, memory, { onWarning: (message) => warnings.push(message) });
    expect(warnings).toEqual([expect.stringMatching(/begins anew.*another version.*"first"/)]);
    await expectWholeModel(memory);
    await expect(memory.readRecord(plan.modelId, 'of the older version')).rejects.toMatchObject({ code: 'STORAGE' });
  });

  it('says what the model needs and what is written when storage is full at any write', async () => {
    vi.stubGlobal('navigator', { storage: { estimate: async () => ({ usage: 900, quota: 1000 }) } });
    const neededBytes = plan.records.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    for (const fullAt of [1, 3, 6]) {
      const { store, memory } = createWatchedStore(async (write) => {
        if (write >= fullAt) throw await toStorageError(new DOMException('full', 'QuotaExceededError'), 'writing');
      });
      await expect(installModel(source, store, SMALL_BATCHES)).rejects.toMatchObject({
        code: 'STORAGE_FULL',
        message: expect.stringMatching(
          new RegExp(
            `needs ${neededBytes} bytes of storage, \\d+ of them are written.*used 900 of an estimated quota of 1000.*remove another`,
          ),
        ),
      });
      await expectContinued(memory);
    }
  });

  it('ends within a few reads when it is aborted, and can be continued', async () => {
    for (const abortAt of [1, 3, 12, 20]) {
      const controller = new AbortController();
      const { watched, reads } = createWatchedSource((read) => {
        if (read === abortAt) controller.abort();
      });
      const { store, memory } = createWatchedStore();
      const installing = installModel(watched, store, { ...SMALL_BATCHES, signal: controller.signal });
      await expect(installing).rejects.toMatchObject({ code: 'ABORTED' });
      expect(reads.length).toBeLessThan(abortAt + 8);
      await expectContinued(memory);
    }
  });

  it('is not committed when it is aborted during the last write', async () => {
    const clean = createWatchedStore();
    await installModel(source, clean.store, SMALL_BATCHES);
    const controller = new AbortController();
    const { store, memory } = createWatchedStore((write) => {
      if (write === clean.log.writes - 1) controller.abort();
    });
    const installing = installModel(source, store, { ...SMALL_BATCHES, signal: controller.signal });
    await expect(installing).rejects.toMatchObject({ code: 'ABORTED' });
    await expectContinued(memory);
  });

  it('keeps what it has when the source fails on the way', async () => {
    const { watched } = createWatchedSource((read) => {
      if (read === 20) throw new EngineError('NETWORK', 'gone');
    });
    const store = createMemoryStore();
    await expect(installModel(watched, store, SMALL_BATCHES)).rejects.toMatchObject({ code: 'NETWORK' });
    await expectContinued(store);
  });

  it('refuses a truncated file before anything is written', async () => {
    const { store, log } = createWatchedStore();
    const truncated = createBlobSource(new Blob([file.subarray(0, file.byteLength - 1)]), 'cut.gguf');
    await expect(installModel(truncated, store)).rejects.toMatchObject({ code: 'BAD_FILE' });
    expect(log.writes).toBe(0);
  });

  it('refuses a page without crypto.subtle before anything is read', async () => {
    vi.stubGlobal('crypto', {});
    const read = vi.fn(source.read);
    await expect(installModel({ ...source, read }, createMemoryStore())).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/not a secure context; serve it over https/),
    });
    expect(read).not.toHaveBeenCalled();
  });

  it('installs the same from a file and from a server that fails now and then', async () => {
    const server = await startFaultServer(file);
    servers.push(server);
    server.script.push(undefined, status(500), undefined, reset, undefined, undefined, status(503));
    const remote = await openHttpSource(server.url, { retryDelaysMs: [1, 1, 1] });
    const fromServer = createMemoryStore();
    const { manifest } = await installModel(remote, fromServer, SMALL_BATCHES);
    const fromFile = await installModel(createBlobSource(new Blob([file]), 'tiny.gguf'), createMemoryStore());
    expect(manifest.digests).toEqual(fromFile.manifest.digests);
    await expectWholeModel(fromServer);
  });
});

describe('an installed model', () => {
  it('is refused as corrupt when a stored record has one changed bit', async () => {
    const store = createMemoryStore();
    const { manifest } = await installModel(source, store);
    const bytes = await store.readRecord(manifest.modelId, 'page/0/0');
    bytes[bytes.byteLength - 1]! ^= 0x80;
    await store.writeRecords(manifest.modelId, [['page/0/0', bytes]]);
    const reader = createVerifiedReader(store, manifest);
    await expect(reader.read('page/0/0')).rejects.toMatchObject({ code: 'CORRUPT' });
    await expect(reader.read('page/0/1')).resolves.toHaveLength(bytes.byteLength);
  });
});
