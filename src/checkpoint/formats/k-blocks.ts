/**
 * What the K types (Q2_K to Q6_K) share: blocks of 256 weights in which the file keeps codes in an order for CPU
 * vectors, and the order of the kernel layout. Owns places of bits only.
 *
 * Places are in bits from the start of the named bytes.
 */
import { readF16 } from './f16';

/** Q4_K, Q5_K: 64 weights in 32 bytes, the first 32 in the low nibbles. */
export function getFileNibble64(weight: number): number {
  return ((weight >> 6) * 32 + (weight & 31)) * 8 + ((weight >> 5) & 1) * 4;
}

/** Q6_K: 128 weights in 64 bytes, the first 64 in the low nibbles. */
export function getFileNibble128(weight: number): number {
  return ((weight >> 7) * 64 + (weight & 63)) * 8 + ((weight >> 6) & 1) * 4;
}

/** Q2_K, Q3_K, Q6_K: 128 weights in 32 bytes, the first 32 in the lowest pairs of bits. */
export function getFilePair(weight: number): number {
  return ((weight >> 7) * 32 + (weight & 31)) * 8 + ((weight >> 5) & 3) * 2;
}

/** Q3_K, Q5_K: 256 weights in 32 bytes, the first 32 in the lowest bits. */
export function getFileBit(weight: number): number {
  return (weight & 31) * 8 + (weight >> 5);
}

/** The value of a bit field in `file`, whose bytes start at `start`. */
export function readBits(file: Uint8Array, start: number, place: number, mask: number): number {
  return ((file[start + (place >> 3)] as number) >> (place & 7)) & mask;
}

/** Scales and minima of Q4_K's and Q5_K's eight units: six bits each, from the block's f16 scales and 12 bytes. */
export function readScaleAndMinimum(file: Uint8Array, at: number, unit: number): [scale: number, minimum: number] {
  const byte = (i: number) => file[at + 4 + i] as number;
  const low = unit & 3;
  const [scale, minimum] =
    unit < 4
      ? [byte(low) & 63, byte(low + 4) & 63]
      : [(byte(low + 8) & 15) | ((byte(low) >> 6) << 4), (byte(low + 8) >> 4) | ((byte(low + 4) >> 6) << 4)];
  return [readF16(file, at) * scale, readF16(file, at + 2) * minimum];
}
