/**
 * Q4_K weights: `ggml_type` 12, 256 weights per block: the f16 scale of the scales and of the minima, 12 bytes with a
 * six-bit scale and minimum for every 32 weights, and 128 bytes of four-bit codes;
 * weight = d * scale * code - dmin * minimum (ggml-quants.c, dequantize_row_q4_K).
 * Planes: nibbles, the block's first 16 bytes as they are.
 */
import { createBlockFormat } from './block-format';
import { getFileNibble64, readBits, readScaleAndMinimum } from './k-blocks';

export const q4_k = createBlockFormat({
  type: 'q4_k',
  ggmlType: 12,
  blockWeights: 256,
  blockBytes: 144,
  planeBytesPer32: [16, 2],
  fields: [
    { plane: 1, fileByte: 0, bytes: 16 },
    { plane: 0, count: 256, bits: 4, getFileBit: (i) => 128 + getFileNibble64(i) },
  ],
  decodeBlock(file, at, out, outAt) {
    for (let i = 0; i < 256; i++) {
      const [scale, minimum] = readScaleAndMinimum(file, at, i >> 5);
      out[outAt + i] = scale * readBits(file, at + 16, getFileNibble64(i), 15) - minimum;
    }
  },
});
