/** RMSNorm in f64 (Zhang & Sennrich, arXiv 1910.07467), which four kernels contain. */

/** y[row, i] = x[row, i] / sqrt(mean(x[row]²) + epsilon) * norm[i]: x [rows, width], norm [width]. */
export function rmsNorm(x: ArrayLike<number>, norm: ArrayLike<number>, epsilon: number): Float64Array {
  const width = norm.length;
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += width) {
    let squares = 0;
    for (let i = 0; i < width; i++) squares += x[start + i]! ** 2;
    const scale = 1 / Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) y[start + i] = x[start + i]! * scale * norm[i]!;
  }
  return y;
}
