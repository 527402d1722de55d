/** CPU reference of shaders/combine_norm.wgsl, in f64. */
import { rmsNorm } from './rms-norm';

/** outputs [rows, topK, hidden], weights [rows, topK], residual [rows, hidden], norm [hidden]. */
export function combineNorm(
  outputs: Float32Array,
  weights: Float32Array,
  residual: Float32Array,
  norm: Float32Array,
  epsilon: number,
): { residual: Float64Array; x: Float64Array } {
  const hidden = norm.length;
  const topK = (weights.length * hidden) / residual.length;
  const sum = Float64Array.from(residual, (value, at) => {
    const row = Math.floor(at / hidden);
    let mixed = 0;
    for (let rank = 0; rank < topK; rank++) {
      mixed += weights[row * topK + rank]! * outputs[(row * topK + rank) * hidden + (at % hidden)]!;
    }
    return value + mixed;
  });
  return { residual: sum, x: rmsNorm(sum, norm, epsilon) };
}
