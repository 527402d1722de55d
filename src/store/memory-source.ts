/**
 * A model file that is already in memory, as a byte source.
 * Never shares its bytes: every read is a copy that the caller may keep, change or transfer.
 */
import type { ByteSource } from '../checkpoint/byte-source';
import { checkRead } from './source-checks';

export function createMemorySource(bytes: Uint8Array, name: string): ByteSource {
  const source: ByteSource = {
    name,
    sizeBytes: bytes.byteLength,
    async read(offsetBytes, lengthBytes, signal) {
      checkRead(source, offsetBytes, lengthBytes, signal);
      return bytes.slice(offsetBytes, offsetBytes + lengthBytes);
    },
  };
  return source;
}
