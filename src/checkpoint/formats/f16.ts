/** F16 weights: `ggml_type` 1, IEEE binary16, little-endian. Owns the exact widening that scales use too. */
import { createPlainFormat, viewUint16 } from './weight-format';

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** Value of an IEEE binary16 bit pattern; exact. */
export function decodeF16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  // Rebias from 15 to 127; infinities and NaNs keep their fraction.
  const exponent32 = exponent === 0x1f ? 0xff : exponent + 112;
  scratchBits[0] = (exponent32 << 23) | (fraction << 13);
  return sign * (scratch[0] as number);
}

/** The binary16 value in two bytes, little-endian. */
export function readF16(bytes: Uint8Array, at: number): number {
  return decodeF16((bytes[at] as number) | ((bytes[at + 1] as number) << 8));
}

export const f16 = createPlainFormat({
  type: 'f16',
  ggmlType: 1,
  weightBytes: 2,
  decode(file, out) {
    const halves = viewUint16(file);
    for (let i = 0; i < out.length; i++) out[i] = decodeF16(halves[i] as number);
  },
});
