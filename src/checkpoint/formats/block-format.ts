/**
 * Weight types that store blocks: a description of where a block's bits lie, in the file and in the planes of the kernel
 * layout, made into a format. Owns the moving of bits; each type's own file says what they mean.
 */
import { assert } from '../../errors';
import type { WeightType } from '../model-config';
import { getPlaneOffsets, UNIT_WEIGHTS, type WeightFormat } from './weight-format';

/** Bytes that stay together. */
export interface ByteField {
  readonly plane: number;
  readonly bytes: number;
  /** In the file's block. */
  readonly fileByte: number;
  /** In the plane's bytes of the block. Default 0. */
  readonly planeByte?: number;
}

/** `count` values of `bits` bits each, none of which crosses a byte; places are in bits, low bits first. */
export interface BitField {
  readonly plane: number;
  readonly count: number;
  readonly bits: 1 | 2 | 4;
  getFileBit(index: number): number;
  /** Default: as `getPlanePlace` says, `index` being a weight. */
  getPlaneBit?(index: number): number;
}

/**
 * Where a plane keeps `bits` bits of a weight: 32 weights have 4 * bits bytes; byte j holds weight j in its lowest bits,
 * then weight j + 4 * bits, and so on. So four consecutive weights are at one place in the four bytes of a word.
 */
export function getPlanePlace(weight: number, bits: number): number {
  const bytes = 4 * bits;
  const inUnit = weight & 31;
  return (weight >> 5) * 32 * bits + (inUnit % bytes) * 8 + Math.floor(inUnit / bytes) * bits;
}

export interface BlockSpec {
  readonly type: WeightType;
  readonly ggmlType: number;
  readonly blockWeights: 32 | 256;
  readonly blockBytes: number;
  readonly planeBytesPer32: readonly number[];
  /** Together they cover every bit of the file's block. */
  readonly fields: readonly (ByteField | BitField)[];
  /** CPU reference: the weights of the file's block at `file[at…]` to `out[outAt…]`. */
  decodeBlock(file: Uint8Array, at: number, out: Float32Array, outAt: number): void;
}

/** Values of a bit field in consecutive bytes, at one place in them, on both sides. */
interface BitRun {
  readonly plane: number;
  readonly mask: number;
  readonly fileByte: number;
  readonly fileShift: number;
  readonly planeByte: number;
  readonly planeShift: number;
  bytes: number;
}

function findRuns(field: BitField): BitRun[] {
  const { plane, count, bits, getFileBit, getPlaneBit = (index) => getPlanePlace(index, bits) } = field;
  const runs: BitRun[] = [];
  for (let i = 0; i < count; i++) {
    const fileBit = getFileBit(i);
    const planeBit = getPlaneBit(i);
    const last = runs.at(-1);
    if (
      last &&
      fileBit === (last.fileByte + last.bytes) * 8 + last.fileShift &&
      planeBit === (last.planeByte + last.bytes) * 8 + last.planeShift
    ) {
      last.bytes++;
      continue;
    }
    runs.push({
      plane,
      mask: 2 ** bits - 1,
      fileByte: fileBit >> 3,
      fileShift: fileBit & 7,
      planeByte: planeBit >> 3,
      planeShift: planeBit & 7,
      bytes: 1,
    });
  }
  return runs;
}

export function createBlockFormat(spec: BlockSpec): WeightFormat {
  const { type, ggmlType, blockWeights, blockBytes, planeBytesPer32, decodeBlock } = spec;
  const byteFields = spec.fields.filter((field): field is ByteField => 'bytes' in field);
  const bitRuns = spec.fields.filter((field): field is BitField => 'bits' in field).flatMap(findRuns);
  const planeStride = planeBytesPer32.map((bytes) => (bytes * blockWeights) / UNIT_WEIGHTS);

  const getBlocks = (rows: number, cols: number): number => {
    assert(cols % blockWeights === 0, `${cols} columns of ${type} are whole blocks of ${blockWeights}`);
    return (rows * cols) / blockWeights;
  };
  const getPackedBytes = (rows: number, cols: number): number => {
    getBlocks(rows, cols);
    return getPlaneOffsets({ planeBytesPer32 }, rows, cols).at(-1) as number;
  };
  const dequantizeFile = (file: Uint8Array, count: number): Float32Array<ArrayBuffer> => {
    const blocks = getBlocks(1, count);
    assert(file.byteLength === blocks * blockBytes, `${count} ${type} weights in ${file.byteLength} bytes`);
    const out = new Float32Array(count);
    for (let block = 0; block < blocks; block++) decodeBlock(file, block * blockBytes, out, block * blockWeights);
    return out;
  };
  const unpack = (packed: Uint8Array, rows: number, cols: number): Uint8Array<ArrayBuffer> => {
    const blocks = getBlocks(rows, cols);
    const offsets = getPlaneOffsets({ planeBytesPer32 }, rows, cols);
    const file = new Uint8Array(blocks * blockBytes);
    for (const { plane, bytes, fileByte, planeByte = 0 } of byteFields) {
      const stride = planeStride[plane] as number;
      let from = (offsets[plane] as number) + planeByte;
      for (let to = fileByte; to < file.byteLength; to += blockBytes, from += stride) {
        for (let i = 0; i < bytes; i++) file[to + i] = packed[from + i] as number;
      }
    }
    for (let block = 0; block < blocks; block++) {
      for (const { plane, mask, fileByte, fileShift, planeByte, planeShift, bytes } of bitRuns) {
        const from = (offsets[plane] as number) + block * (planeStride[plane] as number) + planeByte;
        const to = block * blockBytes + fileByte;
        for (let i = 0; i < bytes; i++) {
          const value = ((packed[from + i] as number) >> planeShift) & mask;
          file[to + i] = (file[to + i] as number) | (value << fileShift);
        }
      }
    }
    return file;
  };

  return {
    type,
    ggmlType,
    blockWeights,
    blockBytes,
    planeBytesPer32,
    getPackedBytes,
    pack(file, rows, cols, out, outOffset, { firstRow, endRow } = { firstRow: 0, endRow: rows }) {
      assert(
        file.byteLength === getBlocks(rows, cols) * blockBytes,
        `${rows}x${cols} ${type} in ${file.byteLength} bytes`,
      );
      const offsets = getPlaneOffsets({ planeBytesPer32 }, rows, cols);
      const [first, end] = [getBlocks(firstRow, cols), getBlocks(endRow, cols)];
      for (const [plane, stride] of planeStride.entries()) {
        const start = outOffset + (offsets[plane] as number);
        // Behind the last row, up to the next plane too.
        const endByte = endRow === rows ? outOffset + (offsets[plane + 1] as number) : start + end * stride;
        out.fill(0, start + first * stride, endByte);
      }
      for (const { plane, bytes, fileByte, planeByte = 0 } of byteFields) {
        const stride = planeStride[plane] as number;
        let to = outOffset + (offsets[plane] as number) + first * stride + planeByte;
        for (let from = first * blockBytes + fileByte; from < end * blockBytes; from += blockBytes, to += stride) {
          for (let i = 0; i < bytes; i++) out[to + i] = file[from + i] as number;
        }
      }
      for (let block = first; block < end; block++) {
        for (const { plane, mask, fileByte, fileShift, planeByte, planeShift, bytes } of bitRuns) {
          const from = block * blockBytes + fileByte;
          const to = outOffset + (offsets[plane] as number) + block * (planeStride[plane] as number) + planeByte;
          for (let i = 0; i < bytes; i++) {
            const value = ((file[from + i] as number) >> fileShift) & mask;
            out[to + i] = (out[to + i] as number) | (value << planeShift);
          }
        }
      }
    },
    unpack,
    dequantize: (packed, rows, cols) => dequantizeFile(unpack(packed, rows, cols), rows * cols),
    dequantizeFile,
  };
}
