/**
 * Q3_K weights: `ggml_type` 11, 256 weights per block: 32 bytes of high bits, 64 bytes of low pairs of bits, 16 six-bit
 * scales in 12 bytes, and an f16 scale of them; weight = d * (scale - 32) * (code - 4)
 * (ggml-quants.c, dequantize_row_q3_K). Planes: pairs, high bits, scales with a byte each, d.
 */
import { createBlockFormat } from './block-format';
import { readF16 } from './f16';
import { getFileBit, getFilePair, readBits } from './k-blocks';

/** Low four and high two bits of the 16 scales, from the first of the 12 bytes. */
const getScaleLow = (i: number): number => (i & 7) * 8 + (i >> 3) * 4;
const getScaleHigh = (i: number): number => (8 + (i & 3)) * 8 + (i >> 2) * 2;
const SCALES_BYTE = 96;

export const q3_k = createBlockFormat({
  type: 'q3_k',
  ggmlType: 11,
  blockWeights: 256,
  blockBytes: 110,
  planeBytesPer32: [8, 4, 2, 0.25],
  fields: [
    { plane: 1, count: 256, bits: 1, getFileBit },
    { plane: 0, count: 256, bits: 2, getFileBit: (i) => 256 + getFilePair(i) },
    { plane: 2, count: 16, bits: 4, getFileBit: (i) => 8 * SCALES_BYTE + getScaleLow(i), getPlaneBit: (i) => 8 * i },
    {
      plane: 2,
      count: 16,
      bits: 2,
      getFileBit: (i) => 8 * SCALES_BYTE + getScaleHigh(i),
      getPlaneBit: (i) => 8 * i + 4,
    },
    { plane: 3, fileByte: 108, bytes: 2 },
  ],
  decodeBlock(file, at, out, outAt) {
    const d = readF16(file, at + 108);
    for (let i = 0; i < 256; i++) {
      const scales = at + SCALES_BYTE;
      const low = readBits(file, scales, getScaleLow(i >> 4), 15);
      const scale = (low | (readBits(file, scales, getScaleHigh(i >> 4), 3) << 4)) - 32;
      const code = readBits(file, at + 32, getFilePair(i), 3) | (readBits(file, at, getFileBit(i), 1) << 2);
      out[outAt + i] = d * scale * (code - 4);
    }
  },
});
