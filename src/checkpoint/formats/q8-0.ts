/**
 * Q8_0 weights: `ggml_type` 8, 32 weights per block of an f16 scale and 32 int8; weight = scale * int8
 * (ggml-quants.c, dequantize_row_q8_0). Planes: bytes, scale.
 */
import { createBlockFormat } from './block-format';
import { readF16 } from './f16';

export const q8_0 = createBlockFormat({
  type: 'q8_0',
  ggmlType: 8,
  blockWeights: 32,
  blockBytes: 34,
  planeBytesPer32: [32, 2],
  fields: [
    { plane: 1, fileByte: 0, bytes: 2 },
    { plane: 0, fileByte: 2, bytes: 32 },
  ],
  decodeBlock(file, at, out, outAt) {
    const scale = readF16(file, at);
    for (let i = 0; i < 32; i++) {
      const byte = file[at + 2 + i] as number;
      out[outAt + i] = scale * (byte < 128 ? byte : byte - 256);
    }
  },
});
