/**
 * Q8_0 weights: `ggml_type` 8, 32 weights per block of an f16 scale and 32 int8; weight = scale * int8
 * (ggml-quants.c, dequantize_row_q8_0). Owns the type's decoder only.
 */
import { decodeF16 } from './f16';
import { createScaledFormat } from './weight-format';

export const q8_0 = createScaledFormat({
  type: 'q8_0',
  ggmlType: 8,
  dataBytesPer32: 32,
  decodeScale: decodeF16,
  decodeUnit(scale, data, dataOffset, out, outOffset) {
    for (let j = 0; j < 32; j++) {
      const byte = data[dataOffset + j] as number;
      out[outOffset + j] = scale * (byte < 128 ? byte : byte - 256);
    }
  },
});
