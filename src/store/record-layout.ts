/**
 * Where the records of a model lie in its one file: what is always on the GPU first, then page behind page, expert-major.
 * Pure: knows sizes and keys, reads and writes nothing.
 */
import type { RecordSize } from './model-store';

/** Of a record in the file. */
export interface RecordPlace {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface RecordLayout {
  readonly places: ReadonlyMap<string, RecordPlace>;
  /** Of the whole file. */
  readonly totalBytes: number;
}

/** Records begin at blocks of file systems and at pages of memory: a read touches no block of its neighbour. */
const ALIGNMENT_BYTES = 4096;

export function layOutRecords(records: readonly RecordSize[]): RecordLayout {
  const places = new Map<string, RecordPlace>();
  let totalBytes = 0;
  for (const { key, sizeBytes } of [...records].sort(comparePages)) {
    places.set(key, { offsetBytes: totalBytes, lengthBytes: sizeBytes });
    totalBytes += Math.ceil(sizeBytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
  }
  return { places, totalBytes };
}

/** Layer by layer, expert by expert; what is no page stays in front, in the order given. */
function comparePages(a: RecordSize, b: RecordSize): number {
  const [layerA = -1, expertA = -1] = getPageNumbers(a.key);
  const [layerB = -1, expertB = -1] = getPageNumbers(b.key);
  return layerA - layerB || expertA - expertB;
}

function getPageNumbers(key: string): number[] {
  const match = /^page\/(\d+)\/(\d+)$/.exec(key);
  return match ? match.slice(1).map(Number) : [];
}
