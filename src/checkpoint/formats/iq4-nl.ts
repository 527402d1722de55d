/**
 * IQ4_NL weights: `ggml_type` 20, blocks as in Q4_0, whose nibbles are places in a table of 16 values that lie closer
 * around zero; weight = scale * table[nibble] (ggml-quants.c, dequantize_row_iq4_nl). Planes: nibbles, scale.
 */
import { createBlockFormat } from './block-format';
import { readF16 } from './f16';

const TABLE = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

export const iq4_nl = createBlockFormat({
  type: 'iq4_nl',
  ggmlType: 20,
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
      out[outAt + j] = scale * (TABLE[byte & 15] as number);
      out[outAt + j + 16] = scale * (TABLE[byte >> 4] as number);
    }
  },
});
