/**
 * The OPFS store in a worker, the only place that has sync access handles, for tests that run in the page.
 * Owns faults of the file system, scripted by a test; errors cross as the engine's own do.
 */
import { type Endpoint, expose } from 'comlink';
import type { ModelStore } from '../../src/store/model-store';
import { openOpfsStore } from '../../src/store/opfs-store';
import { toErrorWire } from '../../src/worker/error-wire';
import type { Reply } from '../../src/worker/protocol';

export type StoreMethod = Exclude<keyof ModelStore, 'kind' | 'readRecordInto'>;

/** What the file system does instead of its work; `short` reads end early, `flipped` ones have one other bit. */
export type FileFault = 'QuotaExceededError' | 'NotReadableError' | LockedFault | 'short' | 'flipped';

/** A second handle where there may be one: as the standard says, and as Safari does. */
export type LockedFault = 'NoModificationAllowedError' | 'InvalidStateError';

export interface OpfsService {
  open(name: string): Promise<Reply<null>>;
  call(method: StoreMethod, args: readonly unknown[]): Promise<Reply<unknown>>;
  /** The record's bytes where it was read into memory of this size, or null. */
  readInto(modelId: string, key: string, sizeBytes: number): Promise<Reply<Uint8Array<ArrayBuffer> | null>>;
  /** The next `times` operations that a fault can meet. */
  fail(fault: FileFault, times: number): void;
}

interface SyncHandlePrototype {
  read(target: Uint8Array, options: { readonly at: number }): number;
  write(bytes: Uint8Array, options: { readonly at: number }): number;
  truncate(sizeBytes: number): void;
}

const { FileSystemSyncAccessHandle } = globalThis as unknown as {
  FileSystemSyncAccessHandle: { readonly prototype: SyncHandlePrototype };
};
const handles = FileSystemSyncAccessHandle.prototype;
const files = FileSystemFileHandle.prototype as unknown as {
  createSyncAccessHandle(options?: object): Promise<unknown>;
};
const { read, write, truncate } = handles;
const { createSyncAccessHandle } = files;

let next: { readonly fault: FileFault; times: number } | null = null;

function takeFault(...kinds: readonly FileFault[]): FileFault | null {
  if (!next || next.times === 0 || !kinds.includes(next.fault)) return null;
  next.times--;
  return next.fault;
}

handles.read = function (target, options) {
  const fault = takeFault('NotReadableError', 'short', 'flipped');
  if (fault === 'NotReadableError') throw new DOMException('the disk is gone', fault);
  const bytes = read.call(this, target, options);
  if (fault === 'flipped') target[bytes - 1] = (target[bytes - 1] ?? 0) ^ 0x10;
  return fault === 'short' ? bytes - 1 : bytes;
};
handles.write = function (bytes, options) {
  if (takeFault('QuotaExceededError')) throw new DOMException('no room', 'QuotaExceededError');
  return write.call(this, bytes, options);
};
handles.truncate = function (sizeBytes) {
  if (takeFault('QuotaExceededError')) throw new DOMException('no room', 'QuotaExceededError');
  truncate.call(this, sizeBytes);
};
files.createSyncAccessHandle = async function (this: unknown, options) {
  const fault = takeFault('NoModificationAllowedError', 'InvalidStateError');
  if (fault) throw new DOMException('there is another handle', fault);
  return createSyncAccessHandle.call(this, options);
};

async function reply<T>(run: () => Promise<T>): Promise<Reply<T>> {
  try {
    return { ok: true, value: await run() };
  } catch (error) {
    return { ok: false, error: toErrorWire(error) };
  }
}

let store: ModelStore | undefined;

const service: OpfsService = {
  open: (name) =>
    reply(async () => {
      store = await openOpfsStore({ name });
      return null;
    }),
  call: (method, args) =>
    reply(async () => {
      if (!store) throw new Error('open comes first');
      return (store[method] as (...values: readonly unknown[]) => Promise<unknown>)(...args);
    }),
  readInto: (modelId, key, sizeBytes) =>
    reply(async () => {
      const target = new Uint8Array(sizeBytes);
      return (await store?.readRecordInto?.(modelId, key, target)) ? target : null;
    }),
  fail(fault, times) {
    next = { fault, times };
  },
};
expose(service, globalThis as unknown as Endpoint);
