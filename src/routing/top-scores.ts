/**
 * The highest scores of a layer. Owns the order: higher first, the lower id first among equals, zeros never.
 */

/**
 * Writes the ids of the up to `count` highest positive scores among `scores[start .. start + experts)` into `ids`,
 * best first.
 * @returns how many were written.
 */
export function selectTop(
  scores: Float32Array,
  start: number,
  experts: number,
  count: number,
  ids: Int32Array | Uint16Array,
): number {
  let found = 0;
  let lowest = 0;
  for (let expert = 0; expert < experts; expert++) {
    const score = scores[start + expert] as number;
    // Not above the last one that fits: equal scores keep the lower id.
    if (!(score > lowest)) continue;
    let at = found < count ? found++ : count - 1;
    while (at > 0 && (scores[start + (ids[at - 1] as number)] as number) < score) {
      ids[at] = ids[at - 1] as number;
      at--;
    }
    ids[at] = expert;
    if (found === count) lowest = scores[start + (ids[count - 1] as number)] as number;
  }
  return found;
}
