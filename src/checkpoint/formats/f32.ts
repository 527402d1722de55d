/** F32 weights: `ggml_type` 0, IEEE binary32, little-endian. Owns the type's decoder only. */
import { createPlainFormat } from './weight-format';

export const f32 = createPlainFormat({
  type: 'f32',
  ggmlType: 0,
  weightBytes: 4,
  decode(file, out) {
    // Bytes, not floats: a float copy may quieten signalling NaNs.
    new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(file);
  },
});
