/**
 * One file of the origin private file system, read and written in place at any offset.
 * Owns the sync access handle, and what is done while another tab has the only one; knows nothing of records.
 */
import { EngineError } from '../errors';

/** What DOM types leave out: only workers have it. */
interface SyncHandle {
  read(target: Uint8Array, options: { readonly at: number }): number;
  write(bytes: Uint8Array, options: { readonly at: number }): number;
  truncate(sizeBytes: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

type SyncFileHandle = FileSystemFileHandle & {
  createSyncAccessHandle(options?: { readonly mode: 'readwrite-unsafe' }): Promise<SyncHandle>;
};

export interface OpfsFile {
  /** Fewer bytes than asked for where the file ends. */
  read(offsetBytes: number, lengthBytes: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Fills `target` by one read; false where the file ends before, and while another tab has the only handle. */
  readInto(offsetBytes: number, target: Uint8Array<ArrayBuffer>): boolean;
  /** @throws EngineError `STORAGE` while another tab has the only handle; DOMException, such as QuotaExceededError. */
  write(offsetBytes: number, bytes: Uint8Array): Promise<void>;
  /** Makes the file at least so large: what is written later has its place. */
  reserve(sizeBytes: number): Promise<void>;
  /** Returns when the disk has what was written. */
  flush(): void;
  close(): void;
}

/** Whether this realm is a worker of a browser that has sync access handles. */
export function hasSyncHandles(): boolean {
  const isFound = typeof FileSystemFileHandle !== 'undefined' && typeof navigator.storage?.getDirectory === 'function';
  return isFound && 'createSyncAccessHandle' in FileSystemFileHandle.prototype;
}

/** Opens a file that is there. Its handle stays open until `close`. */
export async function openOpfsFile(fileHandle: FileSystemFileHandle): Promise<OpfsFile> {
  let handle = await tryOpen(fileHandle);
  const requireHandle = async (): Promise<SyncHandle> => {
    handle ??= await tryOpen(fileHandle);
    if (handle) return handle;
    throw new EngineError(
      'STORAGE',
      `the file "${fileHandle.name}" is open in 1 other tab of this site, and this browser lets only 1 write to it; ` +
        'close the other tabs, or use the indexeddb store',
    );
  };
  return {
    async read(offsetBytes, lengthBytes) {
      if (handle) {
        const bytes = new Uint8Array(lengthBytes);
        const readBytes = handle.read(bytes, { at: offsetBytes });
        return readBytes === lengthBytes ? bytes : bytes.subarray(0, readBytes);
      }
      const file = await fileHandle.getFile();
      return new Uint8Array(await file.slice(offsetBytes, offsetBytes + lengthBytes).arrayBuffer());
    },
    readInto(offsetBytes, target) {
      return handle?.read(target, { at: offsetBytes }) === target.byteLength;
    },
    async write(offsetBytes, bytes) {
      const writtenBytes = (await requireHandle()).write(bytes, { at: offsetBytes });
      if (writtenBytes === bytes.byteLength) return;
      throw new DOMException(`${writtenBytes} of ${bytes.byteLength} bytes were written`, 'QuotaExceededError');
    },
    async reserve(sizeBytes) {
      const open = await requireHandle();
      if (open.getSize() < sizeBytes) open.truncate(sizeBytes);
    },
    flush() {
      handle?.flush();
    },
    close() {
      handle?.close();
      handle = null;
    },
  };
}

/**
 * `readwrite-unsafe` lets several tabs have a handle; Web Locks decide which of them writes. Browsers that do not know the
 * mode give one handle at a time: null where another tab has it, which then reads and writes through it alone.
 */
async function tryOpen(fileHandle: FileSystemFileHandle): Promise<SyncHandle | null> {
  try {
    return await (fileHandle as SyncFileHandle).createSyncAccessHandle({ mode: 'readwrite-unsafe' });
  } catch (error) {
    if (error instanceof DOMException && LOCKED_NAMES.includes(error.name)) return null;
    throw error;
  }
}

/** What a second handle is refused with: as the File System Standard says, and as Safari does. */
const LOCKED_NAMES = ['NoModificationAllowedError', 'InvalidStateError'];
