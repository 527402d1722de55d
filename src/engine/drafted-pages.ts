/**
 * Which pages the layers behind a fault will need when several guessed tokens run together: what the draft chose, and what
 * ran ahead on the GPU. Pure; holds no pages.
 */
import type { ExpectedPage } from '../experts/pager';
import { listChosen } from '../kernels/router-topk';
import { splitLayers } from './forecast';
import type { FaultRecord } from './pass';

/** Nearest layer first; within a layer by row, since the first rows are the surest to belong to the text. */
export function getDraftedPages(
  { moeLayer, rows, routes, runAhead }: FaultRecord,
  draftRoutes: Uint32Array,
  layers: number,
): ExpectedPage[] {
  const k = routes.length / layers / rows;
  const draftedTokens = draftRoutes.length / layers / k;
  const ahead = splitLayers(routes, layers);
  const pages: ExpectedPage[] = [];
  for (let layer = moeLayer + 1; layer < layers; layer++) {
    const experts = new Set<number>();
    for (let row = 0; row < rows; row++) {
      const drafted = draftRoutes.subarray((row * layers + layer) * k, (row * layers + layer + 1) * k);
      for (const expert of listChosen(drafted)) experts.add(expert);
      // Routers that run on a residual stream from layers before are less sure than a draft, which went through them all.
      const counts = runAhead > 1 || (runAhead === 1 && row >= draftedTokens);
      const own = (ahead[layer] as Uint32Array).subarray(row * k, (row + 1) * k);
      if (counts) for (const expert of listChosen(own)) experts.add(expert);
    }
    pages.push(...[...experts].map((expert) => ({ moeLayer: layer, expert, isWanted: true })));
  }
  return pages;
}
