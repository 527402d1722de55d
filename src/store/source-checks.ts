/**
 * The checks that every byte source makes before it reads: the range is inside the file, the caller has not aborted.
 * Never reads anything.
 */
import { throwIfAborted } from '../aborts';
import type { ByteSource } from '../checkpoint/byte-source';
import { EngineError } from '../errors';

/** @throws EngineError `BAD_FILE` when the range leaves the file, `ABORTED`. */
export function checkRead(
  source: Pick<ByteSource, 'name' | 'sizeBytes'>,
  offsetBytes: number,
  lengthBytes: number,
  signal: AbortSignal | undefined,
): void {
  throwIfAborted(signal, `reading "${source.name}"`);
  const valid = Number.isSafeInteger(offsetBytes) && Number.isSafeInteger(lengthBytes) && offsetBytes >= 0;
  if (!valid || lengthBytes < 0 || offsetBytes + lengthBytes > source.sizeBytes) {
    throw new EngineError(
      'BAD_FILE',
      `"${source.name}": ${lengthBytes} bytes at offset ${offsetBytes} lie outside the file of ${source.sizeBytes} ` +
        'bytes; the file is truncated or damaged, get it again',
    );
  }
}
