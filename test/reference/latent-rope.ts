/** CPU reference of shaders/latent_rope.wgsl for one row, in f64. */

export interface LatentRopeShape {
  readonly heads: number;
  readonly rank: number;
  readonly plainDim: number;
  readonly ropeDims: number;
  readonly isInterleaved: boolean;
  readonly epsilon: number;
}

export interface LatentRow {
  /** [rank + ropeDims]: the normed latent, then the turned key. */
  readonly cached: Float64Array;
  /** [heads][ropeDims]: the turned end of every query. */
  readonly queries: readonly Float64Array[];
}

/** @param turns [ropeDims / 2] of (cos, sin) at the row's position. */
export function latentRope(
  shape: LatentRopeShape,
  row: Float32Array,
  norm: ArrayLike<number>,
  turns: ArrayLike<number>,
): LatentRow {
  const { heads, rank, plainDim, ropeDims, epsilon } = shape;
  const width = plainDim + ropeDims;
  const latent = row.subarray(heads * width, heads * width + rank);
  const mean = latent.reduce((sum, value) => sum + value * value, 0) / rank;
  const normed = Float64Array.from(latent, (value, i) => (value / Math.sqrt(mean + epsilon)) * norm[i]!);
  const key = turn(shape, row.subarray(heads * width + rank), turns);
  const queries = Array.from({ length: heads }, (_, head) =>
    turn(shape, row.subarray(head * width + plainDim, (head + 1) * width), turns),
  );
  return { cached: Float64Array.of(...normed, ...key), queries };
}

function turn(
  { ropeDims, isInterleaved }: LatentRopeShape,
  values: ArrayLike<number>,
  turns: ArrayLike<number>,
): Float64Array {
  const out = new Float64Array(ropeDims);
  for (let pair = 0; pair < ropeDims / 2; pair++) {
    const [a, b] = isInterleaved ? [2 * pair, 2 * pair + 1] : [pair, pair + ropeDims / 2];
    const [cos, sin] = [turns[2 * pair]!, turns[2 * pair + 1]!];
    out[a] = values[a]! * cos - values[b]! * sin;
    out[b] = values[b]! * cos + values[a]! * sin;
  }
  return out;
}
