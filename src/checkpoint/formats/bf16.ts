/** BF16 weights: `ggml_type` 30, the upper half of a binary32, little-endian. Owns the type's decoder only. */
import { createPlainFormat, viewUint16 } from './weight-format';

export const bf16 = createPlainFormat({
  type: 'bf16',
  ggmlType: 30,
  weightBytes: 2,
  decode(file, out) {
    const halves = viewUint16(file);
    const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
    for (let i = 0; i < bits.length; i++) bits[i] = (halves[i] as number) << 16;
  },
});
