/**
 * What tells one checkpoint from another: headers and sizes tell most apart; two trainings of one architecture and
 * tokenizer differ in weights only, so the first bytes of a few tensors, spread over the files, count too.
 */
import type { ByteSource } from './byte-source';

const SAMPLED_TENSORS = 8;
const SAMPLE_BYTES = 4096;

/**
 * The format and 32 hex digits.
 * @param headers all that the files say about themselves.
 * @param tensors where tensors lie in the source, in an order that the files fix.
 */
export async function computeModelId(
  format: 'gguf' | 'safetensors',
  headers: readonly Uint8Array[],
  source: ByteSource,
  tensors: readonly { readonly offsetBytes: number; readonly sizeBytes: number }[],
  signal?: AbortSignal,
): Promise<string> {
  const count = Math.min(SAMPLED_TENSORS, tensors.length);
  const samples = await Promise.all(
    Array.from({ length: count }, (_, i) => {
      const at = Math.round(((i + 0.5) * tensors.length) / count - 0.5);
      const { offsetBytes, sizeBytes } = tensors[at] as (typeof tensors)[number];
      return source.read(offsetBytes, Math.min(SAMPLE_BYTES, sizeBytes), signal);
    }),
  );
  const parts = [...headers, new TextEncoder().encode(`|${source.sizeBytes}|`), ...samples];
  const digest = await crypto.subtle.digest('SHA-256', await new Blob(parts as BlobPart[]).arrayBuffer());
  const hex = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return `${format}-${hex.slice(0, 32)}`;
}
