/**
 * How many of the experts that a layer used were among the m best of a prediction, by the prediction's distance.
 */
import type { TokenRoutes } from '../token-routes';

interface Count {
  hits: number;
  needed: number;
}

export class RecallCounter {
  /** By distance, then by m. */
  readonly #counts = new Map<number, Map<number, Count>>();

  /** @param top the prediction's `found` best experts of the layer, best first */
  note(
    routes: TokenRoutes,
    layer: number,
    distance: number,
    top: ArrayLike<number>,
    found: number,
    sizes: readonly number[],
  ): void {
    for (const size of sizes) {
      const count = this.#getCount(distance, size);
      const named = Math.min(found, size);
      for (let at = routes.getStart(layer); at < routes.getStart(layer + 1); at++) {
        count.needed++;
        for (let index = 0; index < named; index++) {
          if (top[index] !== routes.ids[at]) continue;
          count.hits++;
          break;
        }
      }
    }
  }

  /** {distance: {m: share}}, distances ascending. */
  getShares(): Record<string, Record<string, number>> {
    const shares: Record<string, Record<string, number>> = {};
    for (const [distance, bySize] of [...this.#counts].sort(([a], [b]) => a - b)) {
      shares[distance] = Object.fromEntries(
        [...bySize].map(([size, { hits, needed }]) => [size, needed > 0 ? hits / needed : 0]),
      );
    }
    return shares;
  }

  #getCount(distance: number, size: number): Count {
    const bySize = this.#counts.get(distance) ?? new Map<number, Count>();
    this.#counts.set(distance, bySize);
    const count = bySize.get(size) ?? { hits: 0, needed: 0 };
    bySize.set(size, count);
    return count;
  }
}
