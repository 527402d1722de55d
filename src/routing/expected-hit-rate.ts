/**
 * What share of the needed experts to expect on the GPU, before a model was ever run: a range, from what was published of
 * other models. Pure. What a model really does is in its routing trace (replay/) and in `GenerateStats.hitRate`.
 *
 * Sources, LRU within each layer: moe-lrc's plots over 512-token samples with slots for twice the active experts (Qwen3-30B-A3B
 * .645 at 1/8 resident, OLMoE .611 at 1/4, Mixtral .613 at 1/2, DeepSeek-V2-Lite .420 at 3/16, Qwen1.5-MoE .277 at 2/15), and
 * for Gemma 4 26B-A4B a public report (.67 at 1/4, .89 at 1/2).
 */

export interface HitRateRange {
  /** Of the models whose tokens wander most. */
  readonly low: number;
  /** Of the models whose tokens keep to few experts. */
  readonly high: number;
}

type Point = readonly [residentShare: number, hitRate: number];

const LOWEST: readonly Point[] = [
  [0, 0],
  [2 / 15, 0.277],
  [3 / 16, 0.42],
  [1 / 2, 0.613],
  [1, 1],
];
const HIGHEST: readonly Point[] = [
  [0, 0],
  [1 / 8, 0.645],
  [1 / 4, 0.67],
  [1 / 2, 0.89],
  [1, 1],
];

/**
 * The range that published models have, between their points.
 * @param residentShare of a layer's experts that have a slot, 0 to 1
 */
export function getExpectedHitRate(residentShare: number): HitRateRange {
  return { low: interpolate(LOWEST, residentShare), high: interpolate(HIGHEST, residentShare) };
}

function interpolate(points: readonly Point[], at: number): number {
  const next = points.findIndex(([share]) => share >= at);
  if (next <= 0) return next === 0 ? 0 : 1;
  const [fromShare, from] = points[next - 1] as Point;
  const [toShare, to] = points[next] as Point;
  return from + ((to - from) * (at - fromShare)) / (toShare - fromShare);
}
