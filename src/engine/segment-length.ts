/**
 * How many layers go into one submission: few mean a round trip each, many mean work behind a fault that comes to nothing.
 * Pure; touches speed only, never a result.
 */

export interface SegmentCosts {
  readonly layers: number;
  /** A submission and its read-back. */
  readonly roundTripMs: number;
  /** A layer behind a fault: its kernels find the fault word and return. */
  readonly deadLayerMs: number;
  /** Faults that a token has met lately. */
  readonly faultsPerToken: number;
}

/**
 * The length with the lowest expected cost per token; of equal ones the longest. A fault falls anywhere in its segment: half
 * of what is left is dead. About sqrt(2 R / (p c)), cut to whole segments.
 */
export function chooseSegmentLayers({ layers, roundTripMs, deadLayerMs, faultsPerToken }: SegmentCosts): number {
  let [best, lowest] = [layers, Infinity];
  for (let length = layers; length >= 1; length--) {
    const trips = Math.ceil(layers / length);
    const dead = (faultsPerToken * (Math.min(length, layers) - 1)) / 2;
    const cost = trips * roundTripMs + dead * deadLayerMs;
    if (cost < lowest) [best, lowest] = [length, cost];
  }
  return best;
}
