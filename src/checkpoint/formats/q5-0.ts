/**
 * Q5_0 weights: `ggml_type` 6, 32 weights per block of an f16 scale, 32 high bits and 16 bytes as in Q4_0;
 * weight = scale * (nibble + 16 * bit - 16) (ggml-quants.c, dequantize_row_q5_0). Planes: nibbles, high bits, scale.
 */
import { createBlockFormat } from './block-format';
import { readF16 } from './f16';

/** The 32 five-bit codes of a block: high bits at `bitsAt`, one per weight, nibbles at `nibblesAt`. */
export function readFiveBits(file: Uint8Array, bitsAt: number, nibblesAt: number, index: number): number {
  const byte = file[nibblesAt + (index & 15)] as number;
  const nibble = index < 16 ? byte & 15 : byte >> 4;
  return nibble | ((((file[bitsAt + (index >> 3)] as number) >> (index & 7)) & 1) << 4);
}

export const q5_0 = createBlockFormat({
  type: 'q5_0',
  ggmlType: 6,
  blockWeights: 32,
  blockBytes: 22,
  planeBytesPer32: [16, 4, 2],
  fields: [
    { plane: 2, fileByte: 0, bytes: 2 },
    { plane: 1, count: 32, bits: 1, getFileBit: (i) => 16 + i },
    { plane: 0, fileByte: 6, bytes: 16 },
  ],
  decodeBlock(file, at, out, outAt) {
    const scale = readF16(file, at);
    for (let i = 0; i < 32; i++) out[outAt + i] = scale * (readFiveBits(file, at + 2, at + 6, i) - 16);
  },
});
