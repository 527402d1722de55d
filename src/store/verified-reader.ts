/**
 * Records of one installed model with their digests checked at the first read of a session.
 * Owns which records were seen intact; never writes and never keeps bytes.
 */
import type { ModelManifest } from '../checkpoint/manifest';
import { EngineError } from '../errors';
import type { ModelStore } from './model-store';
import { computeDigest } from './record-digest';

/** Since the model was opened. */
export interface RecordCounters {
  /** Records read from the store, and their bytes. */
  storeReads: number;
  storeBytes: number;
  /** Records that were waited for from the source. */
  sourceReads: number;
  /** Bytes that came from the source, for these and for the rest. */
  sourceBytes: number;
  /** Records that were stored, and were fetched again because they were lost or damaged. */
  repairs: number;
}

export function createRecordCounters(): RecordCounters {
  return { storeReads: 0, storeBytes: 0, sourceReads: 0, sourceBytes: 0, repairs: 0 };
}

/** Records of a model, wherever they are. */
export interface RecordReader {
  /** Reads one record whole; treat the bytes as read-only. @throws EngineError */
  read(key: string, urgency?: 'needed' | 'expected'): Promise<Uint8Array>;
  /**
   * Reads one record of the store into memory that is given, as long as the record, with no copy between.
   * @returns false, with `target` undefined, where it has to be read by `read`, which also says what is wrong with it. Never rejects.
   */
  readInto(key: string, target: Uint8Array<ArrayBuffer>): Promise<boolean>;
  /** Whether `readInto` is worth a try: the store can do it. */
  readonly canReadInto: boolean;
  /** Makes a record that is being read as `expected` needed. */
  hasten(key: string): void;
  /** Whether the store has the record. */
  has(key: string): boolean;
  /** Whether every record can be had without a network. */
  readonly isLocal: boolean;
  readonly counters: Readonly<RecordCounters>;
  /** What the store holds of the model, as far as this reader counts it. */
  readonly storedBytes: number;
}

export interface VerifiedReader extends RecordReader {
  /**
   * Reads one record whole. Reads of one key that overlap share one result: treat the bytes as read-only.
   * @throws EngineError `CORRUPT` when the bytes do not have the digest of the manifest, `STORAGE`.
   */
  read(key: string): Promise<Uint8Array>;
}

/** One per load of a model. Hashing costs about 1 ms per MB, so only the first read of a record pays for it. */
export function createVerifiedReader(
  store: ModelStore,
  manifest: Pick<ModelManifest, 'modelId' | 'name' | 'digests'>,
  getDigest: (key: string) => string | undefined = (key) => manifest.digests[key],
): VerifiedReader {
  const verified = new Set<string>();
  const counters = createRecordCounters();
  const reading = new Map<string, Promise<Uint8Array>>();

  /** @throws EngineError `CORRUPT` at a record's first read */
  const verify = async (key: string, bytes: Uint8Array): Promise<void> => {
    counters.storeReads++;
    counters.storeBytes += bytes.byteLength;
    if (verified.has(key)) return;
    const digest = await computeDigest(bytes);
    const expected = getDigest(key);
    if (digest !== expected) {
      throw new EngineError(
        'CORRUPT',
        `record "${key}" of model "${manifest.name}" (${manifest.modelId}) has SHA-256 ${digest}, ` +
          `expected ${expected ?? 'one that the manifest does not note'}; remove the model and install it again`,
      );
    }
    verified.add(key);
  };

  const readOnce = async (key: string): Promise<Uint8Array> => {
    const bytes = await store.readRecord(manifest.modelId, key);
    await verify(key, bytes);
    return bytes;
  };

  return {
    isLocal: true,
    counters,
    storedBytes: 0,
    has: (key) => getDigest(key) !== undefined,
    hasten: () => {},
    canReadInto: store.readRecordInto !== undefined,
    async readInto(key, target) {
      try {
        if (!(await store.readRecordInto?.(manifest.modelId, key, target))) return false;
        await verify(key, target);
        return true;
      } catch {
        // Also memory that was unmapped under its digest. What is wrong with the record, `read` finds again and says.
        return false;
      }
    },
    read(key) {
      const pending = reading.get(key);
      if (pending) return pending;
      const started = readOnce(key).finally(() => reading.delete(key));
      reading.set(key, started);
      return started;
    },
  };
}
