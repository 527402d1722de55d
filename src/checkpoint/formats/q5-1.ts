/**
 * Q5_1 weights: `ggml_type` 7, 32 weights per block of an f16 scale, an f16 minimum, 32 high bits and 16 bytes as in
 * Q4_0; weight = scale * (nibble + 16 * bit) + minimum (ggml-quants.c, dequantize_row_q5_1).
 * Planes: nibbles, high bits, scale and minimum.
 */
import { createBlockFormat } from './block-format';
import { readF16 } from './f16';
import { readFiveBits } from './q5-0';

export const q5_1 = createBlockFormat({
  type: 'q5_1',
  ggmlType: 7,
  blockWeights: 32,
  blockBytes: 24,
  planeBytesPer32: [16, 4, 4],
  fields: [
    { plane: 2, fileByte: 0, bytes: 4 },
    { plane: 1, count: 32, bits: 1, getFileBit: (i) => 32 + i },
    { plane: 0, fileByte: 8, bytes: 16 },
  ],
  decodeBlock(file, at, out, outAt) {
    const scale = readF16(file, at);
    const minimum = readF16(file, at + 2);
    for (let i = 0; i < 32; i++) out[outAt + i] = scale * readFiveBits(file, at + 4, at + 8, i) + minimum;
  },
});
