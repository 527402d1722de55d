/**
 * MXFP4 weights: `ggml_type` 39, 32 weights per block of an 8-bit exponent and 16 bytes as in Q4_0; a nibble is a
 * four-bit float (E2M1); weight = 2^(exponent - 127) * float (OCP Microscaling Formats 1.0; ggml-quants.c,
 * dequantize_row_mxfp4). Planes: nibbles, exponent.
 */
import { createBlockFormat } from './block-format';

/** Twice the values, so that they are whole; negative zero is plain zero, as in ggml. */
const DOUBLED = Int8Array.of(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);

export const mxfp4 = createBlockFormat({
  type: 'mxfp4',
  ggmlType: 39,
  blockWeights: 32,
  blockBytes: 17,
  planeBytesPer32: [16, 1],
  fields: [
    { plane: 1, fileByte: 0, bytes: 1 },
    { plane: 0, fileByte: 1, bytes: 16 },
  ],
  decodeBlock(file, at, out, outAt) {
    const half = 2 ** ((file[at] as number) - 128);
    for (let j = 0; j < 16; j++) {
      const byte = file[at + 1 + j] as number;
      out[outAt + j] = half * (DOUBLED[byte & 15] as number);
      out[outAt + j + 16] = half * (DOUBLED[byte >> 4] as number);
    }
  },
});
