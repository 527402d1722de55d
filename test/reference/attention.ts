/** CPU reference of shaders/attention.wgsl, in f64: the textbook softmax, in one piece. */

export interface AttentionShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly context: number;
  readonly scale: number;
}

/**
 * q [rows, heads, headDim]; k and v caches [kvHeads, context, headDim]; row r sees positions 0 … position + r.
 * Returns [rows, heads, headDim].
 */
export function attention(
  shape: AttentionShape,
  q: ArrayLike<number>,
  kCache: ArrayLike<number>,
  vCache: ArrayLike<number>,
  position: number,
): Float64Array {
  const { heads, kvHeads, headDim, context } = shape;
  const rows = q.length / (heads * headDim);
  const out = new Float64Array(q.length);
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < heads; head++) {
      const own = (row * heads + head) * headDim;
      const cache = Math.floor(head / (heads / kvHeads)) * context * headDim;
      const scores: number[] = [];
      for (let p = 0; p <= position + row; p++) {
        let sum = 0;
        for (let d = 0; d < headDim; d++) sum += q[own + d]! * kCache[cache + p * headDim + d]!;
        scores.push(sum * shape.scale);
      }
      const highest = scores.reduce((a, b) => Math.max(a, b));
      const weights = scores.map((score) => Math.exp(score - highest));
      const total = weights.reduce((a, b) => a + b);
      for (let d = 0; d < headDim; d++) {
        let sum = 0;
        weights.forEach((weight, p) => {
          sum += weight * vCache[cache + p * headDim + d]!;
        });
        out[own + d] = sum / total;
      }
    }
  }
  return out;
}
