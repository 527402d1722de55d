/** CPU reference of shaders/matvec.wgsl, in f64. Never knows a weight type: it takes dequantised values. */

/** y[row, r] = sum over c of W[r, c] * x[row, c]: W [matrixRows, cols], x [rows, cols], result [rows, matrixRows]. */
export function matvec(w: ArrayLike<number>, x: ArrayLike<number>, matrixRows: number, cols: number): Float64Array {
  const rows = x.length / cols;
  const y = new Float64Array(rows * matrixRows);
  for (let row = 0; row < rows; row++) {
    for (let r = 0; r < matrixRows; r++) {
      let sum = 0;
      for (let c = 0; c < cols; c++) sum += w[r * cols + c]! * x[row * cols + c]!;
      y[row * matrixRows + r] = sum;
    }
  }
  return y;
}
