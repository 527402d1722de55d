/**
 * Reads of large records, store by store and raw, as far as the GPU: what `npm run perf` compares stores by.
 * Owns the records that it writes; sums nothing up.
 */
import { assert } from '../../src/errors';
import { type DeviceOptions, type GpuDevice, openDevice } from '../../src/gpu/device';
import { GpuMemory } from '../../src/gpu/memory';
import type { ModelStore } from '../../src/store/model-store';
import { type OpfsFile, openOpfsFile } from '../../src/store/opfs-file';
import type { ReadSample, StreamJob } from './protocol';

const MODEL_ID = 'webmoe-perf';
const RECORD_BYTES = 4 * 2 ** 20;
const RECORDS = 16;

/** Staging buffers that are filled while others are copied. */
const STAGING_BUFFERS = 4;

/** What DOM types leave out: only workers have it. */
interface ReadHandle {
  read(target: Uint8Array, options: { readonly at: number }): number;
  close(): void;
}

function openHandle(file: FileSystemFileHandle): Promise<ReadHandle> {
  return (file as FileSystemFileHandle & { createSyncAccessHandle(): Promise<ReadHandle> }).createSyncAccessHandle();
}

const keys = Array.from({ length: RECORDS }, (_, i) => `page/0/${i}`);

export class StreamBench {
  readonly #written = new Set<string>();

  constructor(
    private readonly getStore: (kind: ModelStore['kind']) => Promise<ModelStore>,
    private readonly device: DeviceOptions,
  ) {}

  /** One pass over all records, warm: they have been written, and read once, before. */
  async stream({ from, parallel, toGpu }: StreamJob): Promise<ReadSample> {
    if (from === 'mapped') return this.#streamMapped();
    const raw = from === 'raw' ? await this.#openRaw() : null;
    const store = from === 'raw' ? null : await this.#fillStore(from);
    const upload = toGpu ? await createUpload(this.device) : null;
    const readOne = async (key: string, i: number): Promise<Uint8Array> => {
      if (raw) return raw.read(i * RECORD_BYTES, RECORD_BYTES);
      assert(store, 'a stream is raw or of a store');
      return store.readRecord(MODEL_ID, key);
    };
    const passOnce = async (): Promise<void> => {
      const queue = [...keys.entries()];
      const readFromQueue = async (): Promise<void> => {
        for (let next = queue.shift(); next; next = queue.shift()) {
          const bytes = await readOne(next[1], next[0]);
          assert(bytes.byteLength === RECORD_BYTES, 'a record is read whole');
          upload?.write(bytes);
        }
      };
      await Promise.all(Array.from({ length: parallel }, readFromQueue));
      await upload?.finish();
    };
    try {
      await passOnce();
      const startMs = performance.now();
      await passOnce();
      return { pages: RECORDS, bytes: RECORDS * RECORD_BYTES, elapsedMs: performance.now() - startMs };
    } finally {
      raw?.close();
      upload?.destroy();
    }
  }

  /** Each record by one read into a staging buffer, of which there are a few. */
  async #streamMapped(): Promise<ReadSample> {
    (await this.#openRaw()).close();
    const folder = await navigator.storage.getDirectory();
    const handle = await openHandle(await folder.getFileHandle(MODEL_ID));
    const { handle: device } = await openDevice(this.device);
    const create = (usage: number) => device.createBuffer({ size: RECORD_BYTES, usage });
    const target = create(GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST);
    const ring = Array.from({ length: STAGING_BUFFERS }, () =>
      create(GPUBufferUsage.MAP_WRITE | GPUBufferUsage.COPY_SRC),
    );
    const passOnce = async (): Promise<void> => {
      for (const i of keys.keys()) {
        const staging = ring[i % STAGING_BUFFERS] as GPUBuffer;
        await staging.mapAsync(GPUMapMode.WRITE);
        const readBytes = handle.read(new Uint8Array(staging.getMappedRange()), { at: i * RECORD_BYTES });
        assert(readBytes === RECORD_BYTES, 'a record is read whole');
        staging.unmap();
        const encoder = device.createCommandEncoder();
        encoder.copyBufferToBuffer(staging, 0, target, 0, RECORD_BYTES);
        device.queue.submit([encoder.finish()]);
      }
      await device.queue.onSubmittedWorkDone();
    };
    try {
      await passOnce();
      const startMs = performance.now();
      await passOnce();
      return { pages: RECORDS, bytes: RECORDS * RECORD_BYTES, elapsedMs: performance.now() - startMs };
    } finally {
      handle.close();
      device.destroy();
    }
  }

  async #openRaw(): Promise<OpfsFile> {
    const folder = await navigator.storage.getDirectory();
    const file = await openOpfsFile(await folder.getFileHandle(MODEL_ID, { create: true }));
    if (!this.#written.has('raw')) {
      for (const i of keys.keys()) await file.write(i * RECORD_BYTES, createRecord(i));
      this.#written.add('raw');
    }
    return file;
  }

  async #fillStore(kind: ModelStore['kind']): Promise<ModelStore> {
    const store = await this.getStore(kind);
    if (this.#written.has(kind)) return store;
    const sourceBytes = RECORDS * RECORD_BYTES;
    await store.writeDraft(
      {
        format: 1,
        modelId: MODEL_ID,
        name: MODEL_ID,
        sourceBytes,
        neededBytes: sourceBytes,
        records: RECORDS,
        sourceName: MODEL_ID,
        sourceVersion: '',
      },
      keys.map((key) => ({ key, sizeBytes: RECORD_BYTES })),
    );
    for (const [i, key] of keys.entries()) await store.writeRecords(MODEL_ID, [[key, createRecord(i), key]]);
    this.#written.add(kind);
    return store;
  }
}

/** No two records, and no two blocks of one, are alike: a disk that joins equal blocks has nothing to join. */
function createRecord(seed: number): Uint8Array {
  const words = new Uint32Array(RECORD_BYTES / 4);
  for (let i = 0, x = seed + 1; i < words.length; i++) {
    x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
    words[i] = x;
  }
  return new Uint8Array(words.buffer);
}

interface Upload {
  write(bytes: Uint8Array): void;
  /** When the GPU has all of it. */
  finish(): Promise<void>;
  destroy(): void;
}

async function createUpload(options: DeviceOptions): Promise<Upload> {
  const device: GpuDevice = await openDevice(options);
  const memory = new GpuMemory(device, RECORD_BYTES);
  const [buffer] = await memory.allocate([{ label: 'records', sizeBytes: RECORD_BYTES, kind: 'storage' }]);
  return {
    write(bytes) {
      assert(buffer, 'one buffer was asked for');
      device.handle.queue.writeBuffer(buffer, 0, bytes as Uint8Array<ArrayBuffer>);
    },
    finish: () => device.handle.queue.onSubmittedWorkDone(),
    destroy: () => device.destroy(),
  };
}
