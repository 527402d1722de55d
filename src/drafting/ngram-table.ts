/**
 * Drafts from a stochastic table of n-grams: how often did each token follow the last two, or the last one? A guess is drawn
 * with the noise that the sampler will use at that position, so that where the counts resemble the model's probabilities
 * both draw the same token. Pure; owns the counts.
 * Source: Song et al., STAND: Accelerated Test-Time Scaling with Model-Free Speculative Sampling, 2025.
 */
import { getGumbelNoise } from '../sampling/gumbel';

/** Longest context first. */
const ORDERS = [2, 1] as const;
/** A context says something from this many sightings on. */
const LEAST_SIGHTINGS = 2;
/** Share of a context's sightings that a guess must have: below it a row of the exact pass is worth more than the guess. */
const LEAST_SHARE = 0.4;

export interface NgramSampling {
  /** 0: greedy, the most frequent token. */
  readonly temperature: number;
  readonly seed: number;
}

interface Followers {
  total: number;
  readonly counts: Map<number, number>;
}

export class NgramTable {
  readonly #text: number[] = [];
  readonly #contexts = new Map<string, Followers>();

  constructor(private readonly sampling: NgramSampling) {}

  /** Notes the next token of the text. */
  push(tokenId: number): void {
    for (const order of ORDERS) {
      if (this.#text.length < order) continue;
      const key = getKey(this.#text, order);
      let followers = this.#contexts.get(key);
      if (!followers) {
        followers = { total: 0, counts: new Map() };
        this.#contexts.set(key, followers);
      }
      followers.total++;
      followers.counts.set(tokenId, (followers.counts.get(tokenId) ?? 0) + 1);
    }
    this.#text.push(tokenId);
  }

  /** At most `count` tokens that may follow; it stops where the table has no likely one. */
  draft(count: number): number[] {
    const text = this.#text.slice(-Math.max(...ORDERS));
    const drafted: number[] = [];
    while (drafted.length < count) {
      const tokenId = this.#guess(text, this.#text.length + drafted.length);
      if (tokenId === undefined) break;
      text.push(tokenId);
      drafted.push(tokenId);
    }
    return drafted;
  }

  #guess(text: readonly number[], position: number): number | undefined {
    for (const order of ORDERS) {
      const followers = text.length < order ? undefined : this.#contexts.get(getKey(text, order));
      if (!followers || followers.total < LEAST_SIGHTINGS) continue;
      let best: number | undefined;
      let bestScore = Number.NEGATIVE_INFINITY;
      for (const [tokenId, uses] of followers.counts) {
        const noise = this.sampling.temperature > 0 ? getGumbelNoise(this.sampling.seed, position, tokenId) : 0;
        const score = Math.log(uses / followers.total) + noise;
        if (score <= bestScore) continue;
        best = tokenId;
        bestScore = score;
      }
      const uses = best === undefined ? 0 : (followers.counts.get(best) as number);
      if (uses / followers.total >= LEAST_SHARE) return best;
    }
    return undefined;
  }
}

function getKey(text: readonly number[], order: number): string {
  return text.slice(-order).join();
}
