/**
 * A record whose ranges are too long to be lost at once: fetched and kept in parts, put together from the store.
 * Never writes the record itself, and never fails for want of a place for its parts.
 */
import type { ByteSource } from '../checkpoint/byte-source';
import type { InstallRecord } from '../checkpoint/install-plan';
import { EngineError } from '../errors';
import type { ModelStore } from './model-store';
import { computeDigest } from './record-digest';

export interface PartStore {
  readonly store: ModelStore;
  readonly modelId: string;
  /** Of the parts that are kept, by key; others join it. */
  readonly digests: Map<string, string>;
  /** Whether parts that come are kept; what is kept already is used all the same. */
  readonly keeps: boolean;
  /** Told that the store takes no more; the record is read on without being kept. */
  readonly onFull: (error: EngineError) => void;
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
/** Of all parts but the last one of a range. */
export const PART_BYTES = 1024 * 1024;
/** Together less than what may be under way. */
const PARALLEL_PARTS = 3;

/**
 * The bytes of each of the record's ranges.
 * @param onBytes told what came, and whether it came from the source.
 * @throws what the source throws; parts that are kept stay.
 */
export async function readInParts(
  record: InstallRecord,
  source: ByteSource,
  { store, modelId, digests, keeps, onFull }: PartStore,
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
  let isKeeping = keeps;
  const keep = async ({ key }: Part, bytes: Uint8Array): Promise<void> => {
    const digest = await computeDigest(bytes);
    if (!isKeeping) return;
    try {
      await store.writeRecords(modelId, [[key, bytes, digest]]);
      digests.set(key, digest);
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      // What else is wrong with the store, writing the record will say.
      isKeeping = false;
      if (error.code === 'STORAGE_FULL') onFull(error);
    }
  };
  const failure = new AbortController();
  const anySignal = AbortSignal.any([signal, failure.signal]);
  const readFromQueue = async () => {
    for (let part = queue.shift(); part !== undefined; part = queue.shift()) {
      const kept = await readKept(part);
      const bytes = kept ?? (await source.read(part.offsetBytes, part.lengthBytes, anySignal));
      if (!kept && isKeeping) await keep(part, bytes);
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

/** Keys of the parts that a record has left in the store. */
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
