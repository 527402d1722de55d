/** CPU reference of shaders/embed_norm.wgsl, in f64. */
import { rmsNorm } from './rms-norm';

/** residual = the tokens' rows of the table [vocab, hidden], exactly; x = their RMSNorm. Both [tokens, hidden]. */
export function embedNorm(
  table: Float32Array,
  tokens: ArrayLike<number>,
  norm: Float32Array,
  epsilon: number,
): { residual: Float32Array; x: Float64Array } {
  const hidden = norm.length;
  const residual = new Float32Array(tokens.length * hidden);
  for (let row = 0; row < tokens.length; row++) {
    const start = tokens[row]! * hidden;
    residual.set(table.subarray(start, start + hidden), row * hidden);
  }
  return { residual, x: rmsNorm(residual, norm, epsilon) };
}
