/** CPU reference of shaders/combine_norm.wgsl, in f64. */
import { normalize } from './rms-norm';

/** outputs [rows, topK, hidden], weights [rows, topK], residual [rows, hidden], norm [1 or 2, hidden]. */
export function combineNorm(
  outputs: Float32Array,
  weights: Float32Array,
  residual: Float32Array,
  norm: Float32Array,
  epsilon: number,
  { kind = 'rms', scale = 1 }: { readonly kind?: 'rms' | 'layer'; readonly scale?: number } = {},
): { residual: Float64Array; x: Float64Array } {
  const hidden = kind === 'layer' ? norm.length / 2 : norm.length;
  const topK = (weights.length * hidden) / residual.length;
  const sum = Float64Array.from(residual, (value, at) => {
    const row = Math.floor(at / hidden);
    let mixed = 0;
    for (let rank = 0; rank < topK; rank++) {
      mixed += weights[row * topK + rank]! * outputs[(row * topK + rank) * hidden + (at % hidden)]!;
    }
    return value + scale * mixed;
  });
  return { residual: sum, x: normalize(kind, sum, norm, epsilon) };
}
