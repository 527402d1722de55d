/**
 * What a weight type is: its blocks in the file, its kernel layout, and the CPU reference that both are held against.
 * Owns the interface and the layout arithmetic; never knows a tensor's name or where its bytes come from.
 *
 * Kernel layout of a matrix [rows, cols], cols % 32 == 0: `[data][scales]`.
 * data: for every row, for every 32 columns, `dataBytesPer32` bytes.
 * scales: for every row, for every 32 columns, `scaleBytesPer32` bytes; the region is rounded up to 16 bytes.
 * Packing only moves bytes, so it is lossless and `unpack` gives the file's bytes back.
 */
import { assert } from '../../errors';
import type { WeightType } from '../model-config';

/** Columns that make one unit of the kernel layout. */
export const UNIT_WEIGHTS = 32;

/** Matrices, and regions inside them, start at multiples of this many bytes: one vec4<f32>. */
export const LAYOUT_ALIGNMENT_BYTES = 16;

export interface WeightFormat {
  readonly type: WeightType;
  /** Number of the type in GGUF (`ggml_type`). */
  readonly ggmlType: number;
  /** Weights per block in the file. */
  readonly blockWeights: number;
  /** Bytes per block in the file. */
  readonly blockBytes: number;
  /** Kernel layout: data bytes per 32 weights. */
  readonly dataBytesPer32: number;
  /** Kernel layout: scale bytes per 32 weights; 0 when the type has no scales. */
  readonly scaleBytesPer32: number;
  /** Size of a packed matrix, a multiple of 16 bytes. */
  getPackedBytes(rows: number, cols: number): number;
  /** Moves a matrix from the file's layout into the kernel layout at `outOffset`, a multiple of 16. */
  pack(file: Uint8Array, rows: number, cols: number, out: Uint8Array, outOffset: number): void;
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

/** Offset of the scales inside a packed matrix: the size of its data region. */
export function getScalesOffsetBytes(format: Pick<WeightFormat, 'dataBytesPer32'>, rows: number, cols: number): number {
  return ((rows * cols) / UNIT_WEIGHTS) * format.dataBytesPer32;
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
    dataBytesPer32: UNIT_WEIGHTS * weightBytes,
    scaleBytesPer32: 0,
    getPackedBytes,
    pack(file, rows, cols, out, outOffset) {
      assert(file.byteLength === getPackedBytes(rows, cols), `${rows}x${cols} ${type} in ${file.byteLength} bytes`);
      out.set(file, outOffset);
    },
    unpack: (packed, rows, cols) => packed.slice(0, getPackedBytes(rows, cols)),
    dequantize: (packed, rows, cols) => decode(packed.subarray(0, getPackedBytes(rows, cols)), rows * cols),
    dequantizeFile: decode,
  };
}

/** A type whose file block is one f16 scale followed by the data of 32 weights. */
export function createScaledFormat(spec: {
  readonly type: WeightType;
  readonly ggmlType: number;
  readonly dataBytesPer32: number;
  /** Decodes the 32 weights at `data[dataOffset…]` into `out[outOffset…]`. */
  decodeUnit(scale: number, data: Uint8Array, dataOffset: number, out: Float32Array, outOffset: number): void;
  decodeScale(bits: number): number;
}): WeightFormat {
  const { type, ggmlType, dataBytesPer32, decodeUnit, decodeScale } = spec;
  const blockBytes = 2 + dataBytesPer32;
  const dataHalves = dataBytesPer32 / 2;
  const getUnits = (rows: number, cols: number): number => {
    assert(cols % UNIT_WEIGHTS === 0, `${cols} columns of ${type} are whole units of ${UNIT_WEIGHTS}`);
    return (rows * cols) / UNIT_WEIGHTS;
  };
  const getPackedBytes = (rows: number, cols: number): number => {
    const units = getUnits(rows, cols);
    return units * dataBytesPer32 + roundUp(units * 2, LAYOUT_ALIGNMENT_BYTES);
  };
  return {
    type,
    ggmlType,
    blockWeights: UNIT_WEIGHTS,
    blockBytes,
    dataBytesPer32,
    scaleBytesPer32: 2,
    getPackedBytes,
    pack(file, rows, cols, out, outOffset) {
      const units = getUnits(rows, cols);
      assert(file.byteLength === units * blockBytes, `${rows}x${cols} ${type} in ${file.byteLength} bytes`);
      assert((out.byteOffset + outOffset) % 2 === 0, 'a packed matrix starts at an even address');
      const from = viewUint16(file);
      const to = new Uint16Array(out.buffer, out.byteOffset + outOffset, getPackedBytes(rows, cols) / 2);
      const scales = units * dataHalves;
      let read = 0;
      let write = 0;
      for (let unit = 0; unit < units; unit++) {
        to[scales + unit] = from[read++] as number;
        for (let half = 0; half < dataHalves; half++) to[write++] = from[read++] as number;
      }
      to.fill(0, scales + units);
    },
    unpack(packed, rows, cols) {
      const units = getUnits(rows, cols);
      const from = viewUint16(packed);
      const to = new Uint16Array((units * blockBytes) / 2);
      const scales = units * dataHalves;
      let read = 0;
      let write = 0;
      for (let unit = 0; unit < units; unit++) {
        to[write++] = from[scales + unit] as number;
        for (let half = 0; half < dataHalves; half++) to[write++] = from[read++] as number;
      }
      return new Uint8Array(to.buffer);
    },
    dequantize(packed, rows, cols) {
      const units = getUnits(rows, cols);
      const scales = viewUint16(packed.subarray(units * dataBytesPer32, units * (dataBytesPer32 + 2)));
      const out = new Float32Array(units * UNIT_WEIGHTS);
      for (let unit = 0; unit < units; unit++) {
        decodeUnit(decodeScale(scales[unit] as number), packed, unit * dataBytesPer32, out, unit * UNIT_WEIGHTS);
      }
      return out;
    },
    dequantizeFile(file, count) {
      const units = getUnits(1, count);
      assert(file.byteLength === units * blockBytes, `${count} ${type} weights in ${file.byteLength} bytes`);
      const halves = viewUint16(file);
      const out = new Float32Array(count);
      for (let unit = 0; unit < units; unit++) {
        const scale = decodeScale(halves[(unit * blockBytes) / 2] as number);
        decodeUnit(scale, file, unit * blockBytes + 2, out, unit * UNIT_WEIGHTS);
      }
      return out;
    },
  };
}
