/**
 * Which page of a layer goes, as numbers: the page with the lowest rank. Ties are the cache's business.
 * A page is layer x experts + expert; time is counted in tokens of the file.
 */
import { createDecayedRates, type DecayedRates } from '../../experts/decayed-rates';
import type { PackedTrace } from './packed-trace';

export const policyNames = ['lru', 'lfu', 'belady', 'random', 'decayed-rates'] as const;
export type PolicyName = (typeof policyNames)[number];

export interface ReplayPolicy {
  /** A token used the page. Told of every use, resident or not, in ascending order of ids within a layer. */
  use(page: number, token: number): void;
  /** Pages of a layer came in for a token, and it has not used them yet. `residents`: the layer's pages with them. */
  prefetch(pages: readonly number[], token: number, residents: readonly number[]): void;
  /** Ranks by page, those of the layer up to date: called before every choice of a victim. */
  getRanks(layer: number): Float64Array;
}

export function createPolicy(name: PolicyName, trace: PackedTrace, seed: number): ReplayPolicy {
  const { layers, experts } = trace.header;
  switch (name) {
    case 'lru':
      return createLru(layers, experts);
    case 'lfu':
      return createLfu(layers * experts);
    case 'belady':
      return createBelady(trace);
    case 'random':
      return createRandom(trace, seed);
    case 'decayed-rates':
      return createRates(trace);
  }
}

/** Time of the last use. Unused prefetches enter in the middle, as in the engine: where it is at the token's first one. */
function createLru(layers: number, experts: number): ReplayPolicy {
  const lastUse = new Float64Array(layers * experts).fill(-1);
  const middles = new Float64Array(layers);
  const middleOf = new Float64Array(layers).fill(-1);
  const times = new Float64Array(experts);
  return {
    use(page, token) {
      lastUse[page] = token;
    },
    prefetch(pages, token, residents) {
      const layer = Math.floor((pages[0] ?? 0) / experts);
      if (middleOf[layer] !== token) {
        for (let at = 0; at < residents.length; at++) times[at] = lastUse[residents[at] as number] as number;
        const ascending = times.subarray(0, residents.length).sort();
        middles[layer] = ascending[residents.length >> 1] as number;
        middleOf[layer] = token;
      }
      for (const page of pages) lastUse[page] = Math.max(lastUse[page] as number, middles[layer] as number);
    },
    getRanks: () => lastUse,
  };
}

/** Uses since the file began, also those before an eviction. */
function createLfu(pages: number): ReplayPolicy {
  const uses = new Float64Array(pages);
  return {
    use(page) {
      uses[page] = (uses[page] as number) + 1;
    },
    prefetch() {},
    getRanks: () => uses,
  };
}

/** The page whose next use is furthest away, or never comes. */
function createBelady(trace: PackedTrace): ReplayPolicy {
  const { layers, experts } = trace.header;
  const { ids, starts, tokens } = trace;
  /** By position in `ids`: minus the token that uses the same page next. Found from the end to the beginning. */
  const nextUse = new Float64Array(ids.length);
  const ranks = new Float64Array(layers * experts).fill(Number.NEGATIVE_INFINITY);
  for (let event = tokens * layers - 1; event >= 0; event--) {
    const layer = event % layers;
    for (let at = starts[event] as number; at < (starts[event + 1] as number); at++) {
      const page = layer * experts + (ids[at] as number);
      nextUse[at] = ranks[page] as number;
      ranks[page] = -(event - layer) / layers;
    }
  }
  return {
    use(page, token) {
      const layer = Math.floor(page / experts);
      let at = starts[token * layers + layer] as number;
      while (layer * experts + (ids[at] as number) !== page) at++;
      ranks[page] = nextUse[at] as number;
    },
    prefetch() {},
    getRanks: () => ranks,
  };
}

function createRates({ header }: PackedTrace): ReplayPolicy {
  const { layers, experts, expertsPerToken } = header;
  const rates = Array.from({ length: layers }, () => createDecayedRates(experts, expertsPerToken));
  const ranks = new Float64Array(layers * experts);
  return {
    use(page) {
      rates[Math.floor(page / experts)]?.use(page % experts);
    },
    prefetch(pages) {
      for (const page of pages) rates[Math.floor(page / experts)]?.insertUnused(page % experts);
    },
    getRanks(layer) {
      const ofLayer = rates[layer] as DecayedRates;
      for (let expert = 0; expert < experts; expert++) ranks[layer * experts + expert] = ofLayer.getRate(expert);
      return ranks;
    },
  };
}

/** Mulberry32: every page of the layer draws, the lowest goes. */
function createRandom({ header }: PackedTrace, seed: number): ReplayPolicy {
  const { layers, experts } = header;
  const ranks = new Float64Array(layers * experts);
  let state = seed >>> 0;
  return {
    use() {},
    prefetch() {},
    getRanks(layer) {
      for (let page = layer * experts; page < (layer + 1) * experts; page++) {
        state = (state + 0x6d2b79f5) >>> 0;
        let mixed = Math.imul(state ^ (state >>> 15), state | 1);
        mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
        ranks[page] = (mixed ^ (mixed >>> 14)) >>> 0;
      }
      return ranks;
    },
  };
}
