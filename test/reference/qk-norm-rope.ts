/** CPU reference of shaders/qk_norm_rope.wgsl, in f64. */
import { rmsNorm } from './rms-norm';

export interface QkNormRopeShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly epsilon: number;
  readonly qkNorm: 'none' | 'full' | 'head' | 'head-after-rope';
  readonly clip: number | null;
  readonly ropeDims: number;
  readonly pairing: 'half' | 'interleaved';
}

/**
 * qkv [rows, (heads + 2 kvHeads) * headDim]; norms [(heads + kvHeads) * headDim], or [2 * headDim] for norms over heads;
 * rope [context, ropeDims / 2] of (cos, sin).
 * Returns q [rows, heads * headDim], k and v [rows, kvHeads * headDim], for positions from `position` on.
 */
export function qkNormRope(
  shape: QkNormRopeShape,
  qkv: Float32Array,
  norms: Float32Array,
  rope: Float32Array,
  position: number,
): { q: Float64Array; k: Float64Array; v: Float64Array } {
  const { headDim, qkNorm, clip, epsilon } = shape;
  const qWidth = shape.heads * headDim;
  const kvWidth = shape.kvHeads * headDim;
  const width = qWidth + 2 * kvWidth;
  const rows = qkv.length / width;
  const q = new Float64Array(rows * qWidth);
  const k = new Float64Array(rows * kvWidth);
  const v = new Float64Array(rows * kvWidth);
  const split = qkNorm === 'full' ? qWidth : headDim;
  // A norm over [width] of more than width values goes over one piece of them after the other.
  const prepare = (raw: Float32Array, weights: Float32Array, at: number): Float64Array => {
    const before = qkNorm === 'full' || qkNorm === 'head' ? rmsNorm(raw, weights, epsilon) : Float64Array.from(raw);
    const turned = rotate(clamp(before, clip), shape, rope, at);
    return qkNorm === 'head-after-rope' ? rmsNorm(turned, weights, epsilon) : turned;
  };
  for (let row = 0; row < rows; row++) {
    const start = row * width;
    const rawQ = qkv.subarray(start, start + qWidth);
    const rawK = qkv.subarray(start + qWidth, start + qWidth + kvWidth);
    const rawV = qkv.subarray(start + qWidth + kvWidth, start + width);
    q.set(prepare(rawQ, norms.subarray(0, split), position + row), row * qWidth);
    k.set(prepare(rawK, norms.subarray(split), position + row), row * kvWidth);
    v.set(clamp(rawV, clip), row * kvWidth);
  }
  return { q, k, v };
}

function clamp(values: ArrayLike<number>, clip: number | null): Float64Array {
  const limit = clip ?? Number.POSITIVE_INFINITY;
  return Float64Array.from(values, (value) => Math.min(limit, Math.max(-limit, value)));
}

/** Turns the first `ropeDims` dimensions of every head; pairs are half of them apart, or neighbours. */
function rotate(
  values: Float64Array,
  { headDim, ropeDims, pairing }: QkNormRopeShape,
  rope: Float32Array,
  position: number,
): Float64Array {
  const half = ropeDims / 2;
  const turned = values.slice();
  for (let head = 0; head < values.length; head += headDim) {
    for (let d = 0; d < half; d++) {
      const cos = rope[(position * half + d) * 2]!;
      const sin = rope[(position * half + d) * 2 + 1]!;
      const [first, second] = pairing === 'half' ? [head + d, head + half + d] : [head + 2 * d, head + 2 * d + 1];
      const a = values[first]!;
      const b = values[second]!;
      turned[first] = a * cos - b * sin;
      turned[second] = b * cos + a * sin;
    }
  }
  return turned;
}
