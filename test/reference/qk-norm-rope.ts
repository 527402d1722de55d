/** CPU reference of shaders/qk_norm_rope.wgsl, in f64. */
import { rmsNorm } from './rms-norm';

export interface QkNormRopeShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly epsilon: number;
  readonly useNorm: boolean;
  readonly clip: number | null;
}

/**
 * qkv [rows, (heads + 2 kvHeads) * headDim]; norms [(heads + kvHeads) * headDim]; rope [context, headDim / 2] of (cos, sin).
 * Returns q [rows, heads * headDim], k and v [rows, kvHeads * headDim], for positions from `position` on.
 */
export function qkNormRope(
  shape: QkNormRopeShape,
  qkv: Float32Array,
  norms: Float32Array,
  rope: Float32Array,
  position: number,
): { q: Float64Array; k: Float64Array; v: Float64Array } {
  const qWidth = shape.heads * shape.headDim;
  const kvWidth = shape.kvHeads * shape.headDim;
  const width = qWidth + 2 * kvWidth;
  const rows = qkv.length / width;
  const q = new Float64Array(rows * qWidth);
  const k = new Float64Array(rows * kvWidth);
  const v = new Float64Array(rows * kvWidth);
  for (let row = 0; row < rows; row++) {
    const start = row * width;
    const rawQ = qkv.subarray(start, start + qWidth);
    const rawK = qkv.subarray(start + qWidth, start + qWidth + kvWidth);
    const rawV = qkv.subarray(start + qWidth + kvWidth, start + width);
    const normedQ = shape.useNorm ? rmsNorm(rawQ, norms.subarray(0, qWidth), shape.epsilon) : rawQ;
    const normedK = shape.useNorm ? rmsNorm(rawK, norms.subarray(qWidth), shape.epsilon) : rawK;
    q.set(rotate(clamp(normedQ, shape.clip), shape.headDim, rope, position + row), row * qWidth);
    k.set(rotate(clamp(normedK, shape.clip), shape.headDim, rope, position + row), row * kvWidth);
    v.set(clamp(rawV, shape.clip), row * kvWidth);
  }
  return { q, k, v };
}

function clamp(values: ArrayLike<number>, clip: number | null): Float64Array {
  const limit = clip ?? Number.POSITIVE_INFINITY;
  return Float64Array.from(values, (value) => Math.min(limit, Math.max(-limit, value)));
}

/** Half-split rotary embedding: dimension d of a head's first half turns with dimension d + headDim / 2. */
function rotate(values: Float64Array, headDim: number, rope: Float32Array, position: number): Float64Array {
  const half = headDim / 2;
  const turned = new Float64Array(values.length);
  for (let head = 0; head < values.length; head += headDim) {
    for (let d = 0; d < half; d++) {
      const cos = rope[(position * half + d) * 2]!;
      const sin = rope[(position * half + d) * 2 + 1]!;
      const a = values[head + d]!;
      const b = values[head + half + d]!;
      turned[head + d] = a * cos - b * sin;
      turned[head + half + d] = b * cos + a * sin;
    }
  }
  return turned;
}
