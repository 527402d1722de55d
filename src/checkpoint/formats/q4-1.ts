/**
 * Q4_1 weights: `ggml_type` 3, 32 weights per block of an f16 scale, an f16 minimum and 16 bytes as in Q4_0;
 * weight = scale * nibble + minimum (ggml-quants.c, dequantize_row_q4_1). Planes: nibbles, scale and minimum.
 */
import { createBlockFormat } from './block-format';
import { readF16 } from './f16';

export const q4_1 = createBlockFormat({
  type: 'q4_1',
  ggmlType: 3,
  blockWeights: 32,
  blockBytes: 20,
  planeBytesPer32: [16, 4],
  fields: [
    { plane: 1, fileByte: 0, bytes: 4 },
    { plane: 0, fileByte: 4, bytes: 16 },
  ],
  decodeBlock(file, at, out, outAt) {
    const scale = readF16(file, at);
    const minimum = readF16(file, at + 2);
    for (let j = 0; j < 16; j++) {
      const byte = file[at + 4 + j] as number;
      out[outAt + j] = scale * (byte & 15) + minimum;
      out[outAt + j + 16] = scale * (byte >> 4) + minimum;
    }
  },
});
