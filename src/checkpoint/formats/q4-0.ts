/**
 * Q4_0 weights: `ggml_type` 2, 32 weights per block of an f16 scale and 16 bytes; weight = scale * (nibble - 8).
 * Byte j holds element j in its low nibble and element j + 16 in its high one (ggml-quants.c, dequantize_row_q4_0).
 * Planes: nibbles, scale.
 */
import { createBlockFormat } from './block-format';
import { readF16 } from './f16';

export const q4_0 = createBlockFormat({
  type: 'q4_0',
  ggmlType: 2,
  blockWeights: 32,
  blockBytes: 18,
  planeBytesPer32: [16, 2],
  fields: [
    { plane: 1, fileByte: 0, bytes: 2 },
    { plane: 0, fileByte: 2, bytes: 16 },
  ],
  decodeBlock(file, at, out, outAt) {
    const scale = readF16(file, at);
    for (let j = 0; j < 16; j++) {
      const byte = file[at + 2 + j] as number;
      out[outAt + j] = scale * ((byte & 15) - 8);
      out[outAt + j + 16] = scale * ((byte >> 4) - 8);
    }
  },
});
