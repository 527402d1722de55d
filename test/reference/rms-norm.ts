/** RMSNorm (Zhang & Sennrich, arXiv 1910.07467) and LayerNorm (Ba et al., arXiv 1607.06450) in f64, which several kernels contain. */

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

/** As `rmsNorm` of x less its mean, plus a bias: norm [2, width], weights then biases. */
export function layerNorm(x: ArrayLike<number>, norm: Float32Array, epsilon: number): Float64Array {
  const width = norm.length / 2;
  const centred = Float64Array.from(x);
  for (let start = 0; start < x.length; start += width) {
    const row = centred.subarray(start, start + width);
    const mean = row.reduce((a, b) => a + b) / width;
    row.forEach((value, i) => {
      row[i] = value - mean;
    });
  }
  return rmsNorm(centred, norm.subarray(0, width), epsilon).map((value, i) => value + norm[width + (i % width)]!);
}

/** Either, by its kind. */
export function normalize(
  kind: 'rms' | 'layer',
  x: ArrayLike<number>,
  norm: Float32Array,
  epsilon: number,
): Float64Array {
  return kind === 'layer' ? layerNorm(x, norm, epsilon) : rmsNorm(x, norm, epsilon);
}
