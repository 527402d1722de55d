/** CPU reference of shaders/attention.wgsl, in f64: the textbook softmax, in one piece. */

export interface AttentionShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly context: number;
  readonly scale: number;
  /** Positions seen, the own one included; default all. */
  readonly window?: number;
  /** A logit per head that joins the softmax and is dropped. */
  readonly sinks?: ArrayLike<number>;
}

/**
 * q [rows, heads, headDim]; k and v caches [kvHeads, context, headDim], position p at p % context; row r sees positions
 * up to position + r, the last `window` of them.
 * Returns [rows, heads, headDim].
 */
export function attention(
  shape: AttentionShape,
  q: ArrayLike<number>,
  kCache: ArrayLike<number>,
  vCache: ArrayLike<number>,
  position: number,
): Float64Array {
  const { heads, kvHeads, headDim, context, window = Number.POSITIVE_INFINITY } = shape;
  const rows = q.length / (heads * headDim);
  const out = new Float64Array(q.length);
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < heads; head++) {
      const own = (row * heads + head) * headDim;
      const cache = Math.floor(head / (heads / kvHeads)) * context * headDim;
      const scores: number[] = [];
      const first = Math.max(0, position + row + 1 - window);
      for (let p = first; p <= position + row; p++) {
        let sum = 0;
        for (let d = 0; d < headDim; d++) sum += q[own + d]! * kCache[cache + (p % context) * headDim + d]!;
        scores.push(sum * shape.scale);
      }
      const sink = shape.sinks?.[head] ?? Number.NEGATIVE_INFINITY;
      const highest = scores.reduce((a, b) => Math.max(a, b), sink);
      const weights = scores.map((score) => Math.exp(score - highest));
      const total = weights.reduce((a, b) => a + b, Math.exp(sink - highest));
      for (let d = 0; d < headDim; d++) {
        let sum = 0;
        weights.forEach((weight, i) => {
          sum += weight * vCache[cache + ((first + i) % context) * headDim + d]!;
        });
        out[own + d] = sum / total;
      }
    }
  }
  return out;
}
