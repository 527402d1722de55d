/**
 * Q4_0 weights: `ggml_type` 2, 32 weights per block of an f16 scale and 16 bytes; weight = scale * (nibble - 8).
 * Byte j holds element j in its low nibble and element j + 16 in its high one (ggml-quants.c, dequantize_row_q4_0).
 */
import { decodeF16 } from './f16';
import { createScaledFormat } from './weight-format';

export const q4_0 = createScaledFormat({
  type: 'q4_0',
  ggmlType: 2,
  dataBytesPer32: 16,
  decodeScale: decodeF16,
  decodeUnit(scale, data, dataOffset, out, outOffset) {
    for (let j = 0; j < 16; j++) {
      const byte = data[dataOffset + j] as number;
      out[outOffset + j] = scale * ((byte & 15) - 8);
      out[outOffset + j + 16] = scale * ((byte >> 4) - 8);
    }
  },
});
