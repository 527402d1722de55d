/** CPU reference of shaders/short_conv.wgsl over a whole sequence, in f64. */

/**
 * projections [positions, 3 hidden]: B, C, x; taps [hidden, count]; bias [hidden] or null.
 * @returns out [positions, hidden], and the state B * x of every position.
 */
export function shortConv(
  hidden: number,
  projections: ArrayLike<number>,
  taps: ArrayLike<number>,
  bias: ArrayLike<number> | null,
): { readonly out: Float64Array; readonly state: Float64Array } {
  const count = taps.length / hidden;
  const positions = projections.length / (3 * hidden);
  const state = new Float64Array(positions * hidden);
  const out = new Float64Array(positions * hidden);
  for (let p = 0; p < positions; p++) {
    for (let i = 0; i < hidden; i++) {
      state[p * hidden + i] = projections[p * 3 * hidden + i]! * projections[(p * 3 + 2) * hidden + i]!;
      let sum = bias ? bias[i]! : 0;
      for (let t = 0; t < count; t++) {
        const from = p - (count - 1) + t;
        if (from >= 0) sum += taps[i * count + t]! * state[from * hidden + i]!;
      }
      out[p * hidden + i] = projections[(p * 3 + 1) * hidden + i]! * sum;
    }
  }
  return { out, state };
}
