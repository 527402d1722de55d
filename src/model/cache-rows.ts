/**
 * Where positions lie in the buffers of the KV cache, as ranges of bytes to copy. Owns the arithmetic; copies nothing.
 */
import type { ModelConfig } from '../checkpoint/model-config';
import { getKvRowBytes } from '../kernels/kv-type';
import { getCacheLength, type RunState, type StateShape } from './run-state';

export interface CacheRange {
  readonly cache: 'kCache' | 'vCache';
  readonly layer: number;
  /** Multiples of 4, both. */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** Whether a layer's cache is shorter than the context, so that later positions come to lie on earlier ones. */
export function isRing(config: ModelConfig, shape: StateShape, layer: number): boolean {
  return getCacheLength(config, shape, layer) < shape.contextLength;
}

/** Positions `from` to `to - 1` in every layer that holds the whole context. */
export function listRows(config: ModelConfig, shape: StateShape, from: number, to: number): CacheRange[] {
  return [...config.mixers.keys()]
    .filter((layer) => !isRing(config, shape, layer))
    .flatMap((layer) => listLayer(config, shape, layer, from, to));
}

/** What the rings hold when the positions up to `end` have been written. */
export function listRings(config: ModelConfig, shape: StateShape, end: number): CacheRange[] {
  return [...config.mixers.keys()]
    .filter((layer) => isRing(config, shape, layer))
    .flatMap((layer) => listLayer(config, shape, layer, 0, Math.min(end, getCacheLength(config, shape, layer))));
}

/** Places `from` to `to - 1` of one layer: a range per cache and head. None where it mixes nothing. */
function listLayer(config: ModelConfig, shape: StateShape, layer: number, from: number, to: number): CacheRange[] {
  const { kvHeads, headDim, latent } = config.attention;
  const isConvolution = config.mixers[layer] === 'convolution';
  const heads = isConvolution ? 1 : kvHeads;
  const rowBytes = isConvolution ? config.hiddenSize * 4 : getKvRowBytes(shape.kvType, headDim);
  const headBytes = getCacheLength(config, shape, layer) * rowBytes;
  const caches: readonly CacheRange['cache'][] = isConvolution || latent !== null ? ['kCache'] : ['kCache', 'vCache'];
  if (to <= from || config.mixers[layer] === 'none') return [];
  return caches.flatMap((cache) =>
    Array.from({ length: heads }, (_, head) => ({
      cache,
      layer,
      offsetBytes: head * headBytes + from * rowBytes,
      sizeBytes: (to - from) * rowBytes,
    })),
  );
}

export function sumRanges(ranges: readonly CacheRange[]): number {
  return ranges.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

/** The buffer that a range lies in. */
export function getCacheBuffer(state: RunState, { cache, layer }: CacheRange): RunState['control'] {
  return state[cache][layer] as RunState['control'];
}
