/** CPU reference of shaders/lib/kv_*.wgsl: rows of a KV cache as bytes, and back. */
import { decodeF16 } from '../../src/checkpoint/formats/f16';
import { encodeF16 } from '../../src/checkpoint/formats/quantize';
import { getKvRowBytes, type KvType } from '../../src/kernels/kv-type';

const UNIT = 32;
const UNIT_BYTES = 36;

/** values [rows, headDim]; q8 rounds halves away from zero, as no adapter has to. */
export function packKv(type: KvType, values: Float32Array<ArrayBuffer>, headDim: number): Uint8Array<ArrayBuffer> {
  const rows = values.length / headDim;
  if (type === 'f32') return new Uint8Array(values.slice().buffer);
  if (type === 'f16') return new Uint8Array(Uint16Array.from(values, encodeF16).buffer);
  const rowBytes = getKvRowBytes(type, headDim);
  const packed = new Uint8Array(rows * rowBytes);
  const view = new DataView(packed.buffer);
  for (let row = 0; row < rows; row++) {
    for (let first = 0; first < headDim; first += UNIT) {
      const unit = values.subarray(row * headDim + first, row * headDim + Math.min(first + UNIT, headDim));
      const scale = Math.fround(unit.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127);
      const at = row * rowBytes + (first / UNIT) * UNIT_BYTES;
      view.setFloat32(at, scale, true);
      packed.fill(128, at + 4, at + UNIT_BYTES);
      unit.forEach((value, i) => {
        if (scale > 0) packed[at + 4 + i] = 128 + Math.round(value / scale);
      });
    }
  }
  return packed;
}

/** [rows, headDim] of bytes in the cache's layout. */
export function unpackKv(
  type: KvType,
  packed: Uint8Array<ArrayBuffer>,
  rows: number,
  headDim: number,
): Float32Array<ArrayBuffer> {
  const view = new DataView(packed.buffer, packed.byteOffset);
  const rowBytes = getKvRowBytes(type, headDim);
  return Float32Array.from({ length: rows * headDim }, (_, i) => {
    const [row, dim] = [Math.floor(i / headDim), i % headDim];
    const start = row * rowBytes;
    if (type === 'f32') return view.getFloat32(start + dim * 4, true);
    if (type === 'f16') return decodeF16(view.getUint16(start + dim * 2, true));
    const unit = start + Math.floor(dim / UNIT) * UNIT_BYTES;
    return Math.fround((view.getUint8(unit + 4 + (dim % UNIT)) - 128) * view.getFloat32(unit, true));
  });
}

/**
 * How far a value may lie from the one that was stored, for each of `values` [rows, headDim]: half a step of the type, and a
 * little more, as adapters may round either way at a tie.
 */
export function getKvTolerance(type: KvType, values: ArrayLike<number>, headDim: number): Float64Array {
  return Float64Array.from({ length: values.length }, (_, i) => {
    if (type === 'f32') return 0;
    // Halves: 11 bits, or the step of subnormals.
    if (type === 'f16') return Math.max(Math.abs(values[i]!) * 2 ** -11, 2 ** -25) * 1.01;
    const row = Math.floor(i / headDim) * headDim;
    const first = row + Math.floor((i - row) / UNIT) * UNIT;
    const unit = Array.from({ length: Math.min(UNIT, row + headDim - first) }, (_, j) => Math.abs(values[first + j]!));
    return (Math.max(...unit) / 127) * 0.501;
  });
}
