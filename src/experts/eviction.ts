/**
 * Picks the page to evict. A policy is one file and one line in `eviction-policies.ts`; recency is the first.
 * Pure: knows experts of one layer by index, never slots or bytes.
 */

export interface EvictionPolicy {
  /** The expert was used by a token. */
  use(expert: number): void;
  /** The page was brought in because it is expected; nothing has used it yet. */
  insertUnused(expert: number): void;
  /** The page that should go first. `candidates` is not empty. */
  getVictim(candidates: readonly number[]): number;
}

/** Least recently used; among never used ones the lowest id. An unused prefetch enters at mid-recency. */
export function createLru(experts: number): EvictionPolicy {
  const lastUse = new Float64Array(experts);
  let clock = 0;
  return {
    use(expert) {
      lastUse[expert] = ++clock;
    },
    insertUnused(expert) {
      const ascending = Float64Array.from(lastUse).sort();
      // Between two neighbours in the middle, so that a wrong guess leaves before half of the used pages do.
      lastUse[expert] = Math.max(lastUse[expert] ?? 0, ascending[ascending.length >> 1] ?? 0);
    },
    getVictim(candidates) {
      return candidates.reduce((victim, expert) => ((lastUse[expert] ?? 0) < (lastUse[victim] ?? 0) ? expert : victim));
    },
  };
}
