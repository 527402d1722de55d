/**
 * Records of one installed model with their digests checked at the first read of a session.
 * Owns which records were seen intact; never writes and never keeps bytes.
 */
import type { ModelManifest } from '../checkpoint/manifest';
import { EngineError } from '../errors';
import type { ModelStore } from './model-store';
import { computeDigest } from './record-digest';

export interface VerifiedReader {
  /**
   * Reads one record whole. Reads of one key that overlap share one result: treat the bytes as read-only.
   * @throws EngineError `CORRUPT` when the bytes do not have the digest of the manifest, `STORAGE`.
   */
  read(key: string): Promise<Uint8Array>;
}

/** One per load of a model. Hashing costs about 1 ms per MB, so only the first read of a record pays for it. */
export function createVerifiedReader(store: ModelStore, manifest: ModelManifest): VerifiedReader {
  const verified = new Set<string>();
  const reading = new Map<string, Promise<Uint8Array>>();

  const readOnce = async (key: string): Promise<Uint8Array> => {
    const bytes = await store.readRecord(manifest.modelId, key);
    if (verified.has(key)) return bytes;
    const digest = await computeDigest(bytes);
    const expected = manifest.digests[key];
    if (digest !== expected) {
      throw new EngineError(
        'CORRUPT',
        `record "${key}" of model "${manifest.name}" (${manifest.modelId}) has SHA-256 ${digest}, ` +
          `expected ${expected ?? 'one that the manifest does not note'}; remove the model and install it again`,
      );
    }
    verified.add(key);
    return bytes;
  };

  return {
    read(key) {
      const pending = reading.get(key);
      if (pending) return pending;
      const started = readOnce(key).finally(() => reading.delete(key));
      reading.set(key, started);
      return started;
    },
  };
}
