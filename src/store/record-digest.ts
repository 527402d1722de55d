/**
 * SHA-256 of a record, as manifests note it: lower-case hex.
 */
import { EngineError } from '../errors';

/** @throws EngineError `UNSUPPORTED` outside secure contexts, where browsers have no `crypto.subtle`. */
export function requireDigests(): void {
  if (globalThis.crypto?.subtle === undefined) {
    throw new EngineError(
      'UNSUPPORTED',
      'SHA-256 (crypto.subtle) is missing because this page is not a secure context; serve it over https or from localhost',
    );
  }
}

/** @throws EngineError `UNSUPPORTED` as {@link requireDigests}. */
export async function computeDigest(bytes: Uint8Array): Promise<string> {
  requireDigests();
  // the cast: crypto.subtle refuses shared memory, and nothing in webmoe is
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
