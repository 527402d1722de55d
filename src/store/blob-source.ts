/**
 * A File or Blob as a byte source, read in place.
 * Never holds more than the range that is being read.
 */
import { throwIfAborted } from '../aborts';
import type { ByteSource } from '../checkpoint/byte-source';
import { EngineError } from '../errors';
import { checkRead } from './source-checks';

/** `name` is for messages. A read fails with `STORAGE` when the file changed or vanished after the user chose it. */
export function createBlobSource(blob: Blob, name: string): ByteSource {
  const source: ByteSource = {
    name,
    sizeBytes: blob.size,
    ...('lastModified' in blob ? { version: `modified ${blob.lastModified}` } : {}),
    async read(offsetBytes, lengthBytes, signal) {
      checkRead(source, offsetBytes, lengthBytes, signal);
      let buffer: ArrayBuffer;
      try {
        buffer = await blob.slice(offsetBytes, offsetBytes + lengthBytes).arrayBuffer();
      } catch (cause) {
        throw unreadable(`${lengthBytes} bytes at offset ${offsetBytes} cannot be read (${String(cause)})`, cause);
      }
      throwIfAborted(signal, `reading "${name}"`);
      if (buffer.byteLength !== lengthBytes) {
        throw unreadable(`${buffer.byteLength} of ${lengthBytes} bytes came at offset ${offsetBytes}`);
      }
      return new Uint8Array(buffer);
    },
  };
  const unreadable = (what: string, cause?: unknown) =>
    new EngineError('STORAGE', `"${name}": ${what}; the file changed or was moved: choose it again`, { cause });
  return source;
}
