/** How far two rows of logits lie apart. */

/** Kullback-Leibler divergence of two rows of logits, in nats. */
export function getDivergence(expected: Float32Array, found: Float32Array): number {
  const [p, q] = [expected, found].map((logits) => {
    const highest = logits.reduce((a, b) => Math.max(a, b));
    const total = logits.reduce((sum, value) => sum + Math.exp(value - highest), 0);
    return Float64Array.from(logits, (value) => value - highest - Math.log(total));
  }) as [Float64Array, Float64Array];
  return p.reduce((sum, value, i) => sum + Math.exp(value) * (value - (q[i] as number)), 0);
}
