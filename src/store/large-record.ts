/**
 * A record whose ranges are too long to be lost at once: fetched and kept in parts, put together from the store.
 * Never writes the record itself.
 */
import type { ByteSource } from '../checkpoint/byte-source';
import type { InstallRecord } from '../checkpoint/install-plan';
import type { ModelStore } from './model-store';
import { computeDigest } from './record-digest';

export interface PartStore {
  readonly store: ModelStore;
  readonly modelId: string;
  /** Of everything that is kept, by key; parts join it. */
  readonly digests: Map<string, string>;
}

interface Part {
  readonly key: string;
  readonly range: number;
  readonly startByte: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** Of the keys of parts. */
export const PART_PREFIX = 'part/';
const PART_BYTES = 1024 * 1024;
/** Together less than what may be under way. */
const PARALLEL_PARTS = 3;

/**
 * The bytes of each of the record's ranges.
 * @param onBytes told what came, and whether it came from the source.
 * @throws what source and store throw; parts that are kept stay.
 */
export async function readInParts(
  record: InstallRecord,
  source: ByteSource,
  { store, modelId, digests }: PartStore,
  signal: AbortSignal,
  onBytes: (bytes: number, isNew: boolean) => void,
): Promise<Uint8Array[]> {
  const buffers = record.sourceRanges.map(({ lengthBytes }) => new Uint8Array(lengthBytes));
  const queue = listParts(record);
  const place = ({ range, startByte }: Part, bytes: Uint8Array) => buffers[range]?.set(bytes, startByte);
  const readKept = async (part: Part): Promise<Uint8Array | null> => {
    const digest = digests.get(part.key);
    if (digest === undefined) return null;
    const bytes = await store.readRecord(modelId, part.key).catch(() => null);
    return bytes && (await computeDigest(bytes)) === digest ? bytes : null;
  };
  const failure = new AbortController();
  const anySignal = AbortSignal.any([signal, failure.signal]);
  const readFromQueue = async () => {
    for (let part = queue.shift(); part !== undefined; part = queue.shift()) {
      const kept = await readKept(part);
      const bytes = kept ?? (await source.read(part.offsetBytes, part.lengthBytes, anySignal));
      if (!kept) {
        const digest = await computeDigest(bytes);
        await store.writeRecords(modelId, [[part.key, bytes, digest]]);
        digests.set(part.key, digest);
      }
      place(part, bytes);
      onBytes(part.lengthBytes, kept === null);
    }
  };
  const failures: unknown[] = [];
  const endOthers = (error: unknown) => {
    failures.push(error);
    queue.length = 0;
    failure.abort();
  };
  // All of them are waited for: who closes the model must know that nothing more is written.
  await Promise.all(Array.from({ length: PARALLEL_PARTS }, () => readFromQueue().catch(endOthers)));
  if (failures.length > 0) throw failures[0];
  return buffers;
}

/** Keys of the parts that a record may have left in the store. */
export function listPartKeys(record: InstallRecord, digests: ReadonlyMap<string, string>): string[] {
  return listParts(record).flatMap(({ key }) => (digests.has(key) ? [key] : []));
}

function listParts(record: InstallRecord): Part[] {
  return record.sourceRanges.flatMap(({ offsetBytes, lengthBytes }, range) =>
    Array.from({ length: Math.ceil(lengthBytes / PART_BYTES) }, (_, i) => {
      const startByte = i * PART_BYTES;
      return {
        key: `${PART_PREFIX}${record.key}/${range}/${startByte}`,
        range,
        startByte,
        offsetBytes: offsetBytes + startByte,
        lengthBytes: Math.min(PART_BYTES, lengthBytes - startByte),
      };
    }),
  );
}
