/**
 * Reads many ranges of a file with few large requests: neighbours are joined, long ranges cut, a few run in parallel.
 * Owns how requests are cut; knows nothing of models.
 */
import type { ByteSource } from '../checkpoint/byte-source';

/** A range of the file. */
export interface Slab {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** One request, and where its bytes go. */
interface JoinedRead {
  readonly offsetBytes: number;
  lengthBytes: number;
  readonly parts: { readonly target: Uint8Array; readonly startByte: number }[];
}

/** Large enough that latency does not count, small enough that an abort or a retry costs little. */
const MAX_READ_BYTES = 4 * 1024 * 1024;
/** Unwanted bytes that are cheaper to read than to ask around: alignment and small tensors. */
const MAX_GAP_BYTES = 4096;
/** HTTP/1.1 browsers open six connections per host; leave some to the page. */
const PARALLEL_READS = 4;

/**
 * Reads every slab whole, in one buffer each, in the order given.
 * @param onBytes told the slab bytes that arrived, request by request.
 * @throws what the source throws; requests under way are then aborted.
 */
export async function readSlabs(
  source: ByteSource,
  slabs: readonly Slab[],
  signal: AbortSignal,
  onBytes: (bytes: number) => void,
): Promise<Uint8Array[]> {
  const buffers = slabs.map(({ lengthBytes }) => new Uint8Array(lengthBytes));
  const queue = joinReads(slabs, buffers);
  const failure = new AbortController();
  const anySignal = AbortSignal.any([signal, failure.signal]);
  const readFromQueue = async () => {
    for (let read = queue.shift(); read !== undefined; read = queue.shift()) {
      const bytes = await source.read(read.offsetBytes, read.lengthBytes, anySignal);
      let arrivedBytes = 0;
      for (const { target, startByte } of read.parts) {
        target.set(bytes.subarray(startByte, startByte + target.byteLength));
        arrivedBytes += target.byteLength;
      }
      onBytes(arrivedBytes);
    }
  };
  try {
    await Promise.all(Array.from({ length: PARALLEL_READS }, readFromQueue));
  } catch (error) {
    queue.length = 0;
    failure.abort();
    throw error;
  }
  return buffers;
}

function joinReads(slabs: readonly Slab[], buffers: readonly Uint8Array[]): JoinedRead[] {
  const reads: JoinedRead[] = [];
  const inFileOrder = slabs
    .map(({ offsetBytes }, i) => ({ offsetBytes, buffer: buffers[i] as Uint8Array }))
    .sort((a, b) => a.offsetBytes - b.offsetBytes);
  for (const { offsetBytes, buffer } of inFileOrder) {
    for (let placedBytes = 0; placedBytes < buffer.byteLength; ) {
      const at = offsetBytes + placedBytes;
      let read = reads.at(-1);
      const gapBytes = read ? at - (read.offsetBytes + read.lengthBytes) : -1;
      if (!read || gapBytes < 0 || gapBytes > MAX_GAP_BYTES || at - read.offsetBytes >= MAX_READ_BYTES) {
        read = { offsetBytes: at, lengthBytes: 0, parts: [] };
        reads.push(read);
      }
      const startByte = at - read.offsetBytes;
      const target = buffer.subarray(placedBytes, placedBytes + MAX_READ_BYTES - startByte);
      read.parts.push({ target, startByte });
      read.lengthBytes = startByte + target.byteLength;
      placedBytes += target.byteLength;
    }
  }
  return reads;
}
