/**
 * Q5_K weights: `ggml_type` 13, as Q4_K with 32 bytes of high bits before the codes;
 * weight = d * scale * code - dmin * minimum (ggml-quants.c, dequantize_row_q5_K).
 * Planes: nibbles, high bits, the block's first 16 bytes as they are.
 */
import { createBlockFormat } from './block-format';
import { getFileBit, getFileNibble64, readBits, readScaleAndMinimum } from './k-blocks';

export const q5_k = createBlockFormat({
  type: 'q5_k',
  ggmlType: 13,
  blockWeights: 256,
  blockBytes: 176,
  planeBytesPer32: [16, 4, 2],
  fields: [
    { plane: 2, fileByte: 0, bytes: 16 },
    { plane: 1, count: 256, bits: 1, getFileBit: (i) => 128 + getFileBit(i) },
    { plane: 0, count: 256, bits: 4, getFileBit: (i) => 384 + getFileNibble64(i) },
  ],
  decodeBlock(file, at, out, outAt) {
    for (let i = 0; i < 256; i++) {
      const [scale, minimum] = readScaleAndMinimum(file, at, i >> 5);
      const nibble = readBits(file, at + 48, getFileNibble64(i), 15);
      const code = nibble | (readBits(file, at + 16, getFileBit(i), 1) << 4);
      out[outAt + i] = scale * code - minimum;
    }
  },
});
