/**
 * What a weight type is: its blocks in the file, its kernel layout, and the CPU reference that both are held against.
 * Owns the interface and the layout arithmetic; never knows a tensor's name or where its bytes come from.
 *
 * Kernel layout of a matrix [rows, cols], cols % 32 == 0: planes, one behind the other, each at a multiple of 16 bytes.
 * A plane holds, for every row and every 32 columns, one kind of the weights' bits: `planeBytesPer32` bytes, which is a
 * fraction where 256 columns share something; such a type has cols % 256 == 0.
 * Packing only moves bits, so it is lossless and `unpack` gives the file's bytes back.
 */
import { assert } from '../../errors';
import type { WeightType } from '../model-config';

/** Columns that make one unit of the kernel layout. */
export const UNIT_WEIGHTS = 32;

/** Matrices, and regions inside them, start at multiples of this many bytes: one vec4<f32>. */
export const LAYOUT_ALIGNMENT_BYTES = 16;

/** Rows of a matrix; `endRow` is the first behind them. */
export interface RowRange {
  readonly firstRow: number;
  readonly endRow: number;
}

export interface WeightFormat {
  readonly type: WeightType;
  /** Number of the type in GGUF (`ggml_type`). */
  readonly ggmlType: number;
  /** Weights per block in the file. */
  readonly blockWeights: number;
  /** Bytes per block in the file. */
  readonly blockBytes: number;
  /** Kernel layout: bytes per 32 weights of each plane. */
  readonly planeBytesPer32: readonly number[];
  /** Size of a packed matrix, a multiple of 16 bytes. */
  getPackedBytes(rows: number, cols: number): number;
  /**
   * Moves a matrix from the file's layout into the kernel layout at `outOffset`, a multiple of 16; with a range those of its
   * rows, and `out` is the whole matrix's once all rows were moved.
   */
  pack(file: Uint8Array, rows: number, cols: number, out: Uint8Array, outOffset: number, range?: RowRange): void;
  /** The inverse of `pack`: the file's bytes. */
  unpack(packed: Uint8Array, rows: number, cols: number): Uint8Array<ArrayBuffer>;
  /** CPU reference on the kernel layout: [rows, cols] f32. */
  dequantize(packed: Uint8Array, rows: number, cols: number): Float32Array<ArrayBuffer>;
  /** CPU reference on the file's layout: [count] f32. */
  dequantizeFile(file: Uint8Array, count: number): Float32Array<ArrayBuffer>;
}

export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

/** Bytes of `count` weights in the file; `count` is a multiple of the block. */
export function getFileBytes(format: Pick<WeightFormat, 'blockWeights' | 'blockBytes'>, count: number): number {
  return (count / format.blockWeights) * format.blockBytes;
}

/** Where each plane of a packed matrix starts, and behind the last one where the matrix ends: multiples of 16. */
export function getPlaneOffsets(
  format: Pick<WeightFormat, 'planeBytesPer32'>,
  rows: number,
  cols: number,
): readonly number[] {
  const units = (rows * cols) / UNIT_WEIGHTS;
  const offsets = [0];
  for (const bytes of format.planeBytesPer32) {
    offsets.push((offsets.at(-1) as number) + roundUp(units * bytes, LAYOUT_ALIGNMENT_BYTES));
  }
  return offsets;
}

/** Little-endian 16-bit view of bytes, copied first when they start at an odd address. */
export function viewUint16(bytes: Uint8Array): Uint16Array {
  const even = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  return new Uint16Array(even.buffer, even.byteOffset, even.byteLength >> 1);
}

/** A type without scales: the file's row-major order already is the kernel layout. */
export function createPlainFormat(spec: {
  readonly type: WeightType;
  readonly ggmlType: number;
  readonly weightBytes: number;
  decode(file: Uint8Array, out: Float32Array): void;
}): WeightFormat {
  const { type, ggmlType, weightBytes } = spec;
  const decode = (bytes: Uint8Array, count: number): Float32Array<ArrayBuffer> => {
    assert(bytes.byteLength === count * weightBytes, `${count} ${type} weights in ${bytes.byteLength} bytes`);
    const out = new Float32Array(count);
    spec.decode(bytes, out);
    return out;
  };
  const getPackedBytes = (rows: number, cols: number): number => {
    const bytes = rows * cols * weightBytes;
    assert(bytes % LAYOUT_ALIGNMENT_BYTES === 0, `${rows}x${cols} ${type} fills whole 16-byte units`);
    return bytes;
  };
  return {
    type,
    ggmlType,
    blockWeights: 1,
    blockBytes: weightBytes,
    planeBytesPer32: [UNIT_WEIGHTS * weightBytes],
    getPackedBytes,
    pack(file, rows, cols, out, outOffset, { firstRow, endRow } = { firstRow: 0, endRow: rows }) {
      assert(file.byteLength === getPackedBytes(rows, cols), `${rows}x${cols} ${type} in ${file.byteLength} bytes`);
      const rowBytes = cols * weightBytes;
      out.set(file.subarray(firstRow * rowBytes, endRow * rowBytes), outOffset + firstRow * rowBytes);
    },
    unpack: (packed, rows, cols) => packed.slice(0, getPackedBytes(rows, cols)),
    dequantize: (packed, rows, cols) => decode(packed.subarray(0, getPackedBytes(rows, cols)), rows * cols),
    dequantizeFile: decode,
  };
}
