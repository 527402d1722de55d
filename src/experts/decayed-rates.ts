/**
 * Eviction by use rates: the page with the lowest sum of two exponentially decayed use rates goes first, a fast one for
 * the sentence and a slow one for the conversation. Pure: knows experts of one layer by index, never slots or bytes.
 */
import type { EvictionPolicy } from './eviction';

/** A use counts half after this many tokens. */
const halfWeightTokens = [16, 256] as const;
/** Weights grow instead of all rates shrinking; before they leave f64's range everything is scaled down. */
const maxWeight = 1e200;

interface Rate {
  /** [experts] f64: uses, each times the weight of its time. */
  readonly sums: Float64Array;
  /** Weight of a use now, and its growth per use of any expert. */
  weight: number;
  readonly growth: number;
  /** Makes both rates shares of the layer's uses, so that neither drowns the other. */
  readonly share: number;
}

export interface DecayedRates extends EvictionPolicy {
  /** Sum of the two rates: shares of the layer's uses. */
  getRate(expert: number): number;
}

/**
 * Ties, as among never used experts, go to the lowest id. An unused prefetch enters at the middle rate.
 * @param usesPerToken experts that a token uses in this layer; with it, time in uses becomes time in tokens
 */
export function createDecayedRates(experts: number, usesPerToken: number): DecayedRates {
  const [fast, slow] = halfWeightTokens.map((tokens): Rate => {
    const growth = 2 ** (1 / (tokens * usesPerToken));
    return { sums: new Float64Array(experts), weight: 1, growth, share: 1 - 1 / growth };
  }) as [Rate, Rate];
  /** [experts] f64: what an unused prefetch is lifted by, in the slow rate's sums: it fades as they do. */
  const lifts = new Float64Array(experts);
  const getRate = (expert: number): number =>
    ((fast.sums[expert] ?? 0) * fast.share) / fast.weight +
    (((slow.sums[expert] ?? 0) + (lifts[expert] ?? 0)) * slow.share) / slow.weight;
  const scaleDown = (sums: Float64Array, weight: number): void => {
    for (const [index, sum] of sums.entries()) sums[index] = sum / weight;
  };
  return {
    getRate,
    use(expert) {
      lifts[expert] = 0;
      for (const rate of [fast, slow]) {
        rate.weight *= rate.growth;
        rate.sums[expert] = (rate.sums[expert] ?? 0) + rate.weight;
        if (rate.weight < maxWeight) continue;
        scaleDown(rate.sums, rate.weight);
        if (rate === slow) scaleDown(lifts, rate.weight);
        rate.weight = 1;
      }
    },
    insertUnused(expert) {
      const ascending = Float64Array.from({ length: experts }, (_, index) => getRate(index)).sort();
      const missing = (ascending[experts >> 1] ?? 0) - getRate(expert);
      if (missing > 0) lifts[expert] = (lifts[expert] ?? 0) + (missing * slow.weight) / slow.share;
    },
    getVictim(candidates) {
      let victim = candidates[0] as number;
      let lowest = getRate(victim);
      for (let at = 1; at < candidates.length; at++) {
        const candidate = candidates[at] as number;
        const rate = getRate(candidate);
        if (rate > lowest || (rate === lowest && candidate > victim)) continue;
        victim = candidate;
        lowest = rate;
      }
      // It leaves, and comes back with nothing but its uses.
      lifts[victim] = 0;
      return victim;
    },
  };
}
