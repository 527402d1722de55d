/**
 * From f32 weights to the blocks of a GGUF file, as the gguf package makes them, to the last bit: round to the nearest
 * of Q8_0 and Q4_0, without weighing columns. Owns the rounding, and the measure of what it costs.
 */
import { assert } from '../../errors';
import { getWeightFormat } from '.';
import { UNIT_WEIGHTS } from './weight-format';

/** What a checkpoint's matrices may become while they are installed. */
export type QuantizedType = 'q8_0' | 'q4_0';

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** The bit pattern of the binary16 value nearest to an f32, ties to even. */
export function encodeF16(value: number): number {
  scratch[0] = value;
  const bits = scratchBits[0] as number;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x7f800000) return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
  // 65520 and more round to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal: a multiple of 2^-24, exact in f64.
    const steps = Math.abs(scratch[0] as number) * 2 ** 24;
    const low = Math.floor(steps);
    const rest = steps - low;
    return sign | (low + (rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? 1 : 0));
  }
  const rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return sign | ((rounded - 0x38000000) >> 13);
}

/** Sums of squares: of what rounding changed, and of the weights. */
export interface QuantizationError {
  readonly errorSquares: number;
  readonly weightSquares: number;
}

/** Blocks of a type for weights whose count is a multiple of 32. */
export function quantize(type: QuantizedType, values: Float32Array): Uint8Array<ArrayBuffer> {
  assert(values.length % UNIT_WEIGHTS === 0, `${values.length} weights are whole blocks`);
  const { blockBytes } = getWeightFormat(type);
  const blocks = values.length / UNIT_WEIGHTS;
  const file = new Uint8Array(blocks * blockBytes);
  const quantizeBlock = type === 'q8_0' ? quantizeQ8 : quantizeQ4;
  for (let block = 0; block < blocks; block++) {
    const at = block * blockBytes;
    const scale = encodeF16(quantizeBlock(values, block * UNIT_WEIGHTS, file, at + 2));
    file[at] = scale & 0xff;
    file[at + 1] = scale >> 8;
  }
  return file;
}

export function measureError(type: QuantizedType, values: Float32Array, file: Uint8Array): QuantizationError {
  const rounded = getWeightFormat(type).dequantizeFile(file, values.length);
  let errorSquares = 0;
  let weightSquares = 0;
  // By index: over entries it took three times as long as the rounding.
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    const error = (rounded[i] as number) - value;
    errorSquares += error * error;
    weightSquares += value * value;
  }
  return { errorSquares, weightSquares };
}

/** Returns the scale. Arithmetic is that of f32, step by step. */
function quantizeQ8(values: Float32Array, from: number, out: Uint8Array, to: number): number {
  let largest = 0;
  for (let i = 0; i < UNIT_WEIGHTS; i++) largest = Math.max(largest, Math.abs(values[from + i] as number));
  const scale = Math.fround(largest / 127);
  const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
  for (let i = 0; i < UNIT_WEIGHTS; i++) {
    const quotient = Math.fround((values[from + i] as number) * inverse);
    // Halves away from zero; the sum is exact in f64.
    const rounded = (Math.abs(quotient) + 0.5) | 0;
    out[to + i] = quotient < 0 ? -rounded : rounded;
  }
  return scale;
}

function quantizeQ4(values: Float32Array, from: number, out: Uint8Array, to: number): number {
  let largest = 0;
  for (let i = 0; i < UNIT_WEIGHTS; i++) {
    const value = values[from + i] as number;
    if (Math.abs(value) > Math.abs(largest)) largest = value;
  }
  const scale = Math.fround(largest / -8);
  const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
  for (let j = 0; j < UNIT_WEIGHTS / 2; j++) {
    const low = Math.fround((values[from + j] as number) * inverse);
    const high = Math.fround((values[from + j + UNIT_WEIGHTS / 2] as number) * inverse);
    out[to + j] = Math.min(15, Math.fround(low + 8.5)) | (Math.min(15, Math.fround(high + 8.5)) << 4);
  }
  return scale;
}
