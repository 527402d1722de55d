/** CPU reference of shaders/embed_norm.wgsl, in f64. */
import { normalize } from './rms-norm';

/** residual = the tokens' rows of the table [vocab, hidden] times a factor; x = their norm. Both [tokens, hidden]. */
export function embedNorm(
  table: Float32Array,
  tokens: ArrayLike<number>,
  norm: Float32Array,
  epsilon: number,
  { kind = 'rms', scale = 1 }: { readonly kind?: 'rms' | 'layer'; readonly scale?: number } = {},
): { residual: Float32Array; x: Float64Array } {
  const hidden = kind === 'layer' ? norm.length / 2 : norm.length;
  const residual = new Float32Array(tokens.length * hidden);
  for (let row = 0; row < tokens.length; row++) {
    const start = tokens[row]! * hidden;
    residual.set(
      table.subarray(start, start + hidden).map((value) => value * scale),
      row * hidden,
    );
  }
  return { residual, x: normalize(kind, residual, norm, epsilon) };
}
