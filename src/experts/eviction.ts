/**
 * Picks the page to evict. One policy per file would be one line here; recency is the first.
 * Pure: knows experts of one layer by index, never slots or bytes.
 */

export interface EvictionPolicy {
  /** The expert was used by a token. */
  use(expert: number): void;
  /** The page that should go first. `candidates` is not empty. */
  getVictim(candidates: readonly number[]): number;
}

/** Least recently used; among never used ones the lowest id. */
export function createLru(experts: number): EvictionPolicy {
  const lastUse = new Float64Array(experts);
  let clock = 0;
  return {
    use(expert) {
      lastUse[expert] = ++clock;
    },
    getVictim(candidates) {
      return candidates.reduce((victim, expert) => ((lastUse[expert] ?? 0) < (lastUse[victim] ?? 0) ? expert : victim));
    },
  };
}
