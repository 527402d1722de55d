/**
 * Q2_K weights: `ggml_type` 10, 256 weights per block: 16 bytes with a four-bit scale and minimum for every 16 weights,
 * 64 bytes of two-bit codes, and the f16 scale of the scales and of the minima;
 * weight = d * scale * code - dmin * minimum (ggml-quants.c, dequantize_row_q2_K).
 * Planes: codes, scales and minima, d and dmin.
 */
import { createBlockFormat } from './block-format';
import { readF16 } from './f16';
import { getFilePair, readBits } from './k-blocks';

export const q2_k = createBlockFormat({
  type: 'q2_k',
  ggmlType: 10,
  blockWeights: 256,
  blockBytes: 84,
  planeBytesPer32: [8, 2, 0.5],
  fields: [
    { plane: 1, fileByte: 0, bytes: 16 },
    { plane: 0, count: 256, bits: 2, getFileBit: (i) => 128 + getFilePair(i) },
    { plane: 2, fileByte: 80, bytes: 4 },
  ],
  decodeBlock(file, at, out, outAt) {
    const d = readF16(file, at + 80);
    const dmin = readF16(file, at + 82);
    for (let i = 0; i < 256; i++) {
      const scales = file[at + (i >> 4)] as number;
      out[outAt + i] = d * (scales & 15) * readBits(file, at + 16, getFilePair(i), 3) - dmin * (scales >> 4);
    }
  },
});
