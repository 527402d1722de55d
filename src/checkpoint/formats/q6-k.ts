/**
 * Q6_K weights: `ggml_type` 14, 256 weights per block: 128 bytes of low nibbles, 64 bytes of high pairs of bits, an int8
 * scale for every 16 weights, and an f16 scale of them; weight = d * scale * (code - 32)
 * (ggml-quants.c, dequantize_row_q6_K). Planes: nibbles, pairs, scales, d.
 */
import { createBlockFormat } from './block-format';
import { readF16 } from './f16';
import { getFileNibble128, getFilePair, readBits } from './k-blocks';

export const q6_k = createBlockFormat({
  type: 'q6_k',
  ggmlType: 14,
  blockWeights: 256,
  blockBytes: 210,
  planeBytesPer32: [16, 8, 2, 0.25],
  fields: [
    { plane: 0, count: 256, bits: 4, getFileBit: getFileNibble128 },
    { plane: 1, count: 256, bits: 2, getFileBit: (i) => 1024 + getFilePair(i) },
    { plane: 2, fileByte: 192, bytes: 16 },
    { plane: 3, fileByte: 208, bytes: 2 },
  ],
  decodeBlock(file, at, out, outAt) {
    const d = readF16(file, at + 208);
    for (let i = 0; i < 256; i++) {
      const byte = file[at + 192 + (i >> 4)] as number;
      const scale = byte < 128 ? byte : byte - 256;
      const nibble = readBits(file, at, getFileNibble128(i), 15);
      const code = nibble | (readBits(file, at + 128, getFilePair(i), 3) << 4);
      out[outAt + i] = d * scale * (code - 32);
    }
  },
});
