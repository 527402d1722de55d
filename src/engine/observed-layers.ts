/** What the layers of a pass chose, as the pager is told of it; holds the GPU's fault word to what is resident. */
import { assert } from '../errors';
import { listChosen } from '../kernels/router-topk';
import type { LayerWaves } from './layer-waves';
import type { Runtime } from './runtime';

/**
 * Experts that rows `firstRow` to `endRow - 1` of `rows` chose in a MoE layer, each once, in order of first choice.
 * @param routes [moeLayers, rows, expertsPerToken]
 */
export function getNeeded(
  { manifest }: Runtime,
  routes: Uint32Array,
  moeLayer: number,
  rows: number,
  firstRow: number,
  endRow: number,
): number[] {
  const k = manifest.config.moe.expertsPerToken;
  const start = moeLayer * rows * k;
  return [...new Set(listChosen(routes.subarray(start + firstRow * k, start + endRow * k)))];
}

export interface ObservedLayers {
  /** [moeLayers, rows, expertsPerToken] */
  readonly routes: Uint32Array;
  readonly rows: number;
  /** MoE layers, both included; `last` is the one that faulted, if one did. */
  readonly first: number;
  readonly last: number;
  readonly hasFaulted: boolean;
  /** The text has all rows: eviction goes by what they used. */
  readonly isText: boolean;
  /** What the layers showed, where they went in waves; null: they did not. */
  readonly waves: LayerWaves | null;
}

/** @returns the experts that the last layer needs. */
export function observeLayers(runtime: Runtime, layers: ObservedLayers): number[] {
  const { routes, rows, first, last, hasFaulted, isText, waves } = layers;
  assert(!hasFaulted || first <= last, `MoE layer ${last} faults once`);
  let needed: number[] = [];
  for (let layer = first; layer <= last; layer++) {
    needed = getNeeded(runtime, routes, layer, rows, 0, rows);
    const missing = runtime.pager.observe(layer, needed, waves?.getShown(layer));
    if (isText) runtime.pager.use(layer, needed);
    assert(
      missing.length > 0 === (hasFaulted && layer === last),
      `MoE layer ${layer} misses a page where, and only where, the GPU found it so`,
    );
  }
  return needed;
}
