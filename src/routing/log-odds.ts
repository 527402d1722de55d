/**
 * Probabilities as log odds, where independent evidence adds up. Tables, because a replay converts a billion of them, and
 * small ones, because they share the processor's first cache with the counts.
 */

const steps = 2048;
/** Log odds are kept within +-maxOdds: a count of a few tokens is no certainty. */
const maxOdds = 6;

const logOdds = Float32Array.from({ length: steps + 1 }, (_, step) => {
  const probability = step / steps;
  return Math.max(-maxOdds, Math.min(maxOdds, Math.log(probability / (1 - probability))));
});

/** Twice as wide: sums of evidence go beyond what one source says. */
const probabilities = Float32Array.from({ length: 2 * steps + 1 }, (_, step) => {
  return 1 / (1 + Math.exp(-(step / steps - 1) * 2 * maxOdds));
});

/** @param probability 0 to 1; beyond, the nearest. */
export function getLogOdds(probability: number): number {
  return logOdds[probability < 1 ? (probability * steps) | 0 : steps] as number;
}

export function getProbability(odds: number): number {
  const step = (odds / (2 * maxOdds) + 1) * steps;
  return probabilities[step > 0 ? Math.min(step | 0, 2 * steps) : 0] as number;
}
