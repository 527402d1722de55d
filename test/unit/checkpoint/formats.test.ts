import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { findGgmlFormat, getWeightFormat, weightFormats } from '../../../src/checkpoint/formats';
import { decodeF16 } from '../../../src/checkpoint/formats/f16';
import { getFileBytes, getPlaneOffsets } from '../../../src/checkpoint/formats/weight-format';
import { startSpentTime } from '../spent-time';

const golden = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`../../golden/${name}`, import.meta.url)));

// As test/oracle/make_dequantized.py writes them.
const ROWS = 3;
/** Of types with blocks of 256 weights: 768. */
const getCols = ({ blockWeights }: { blockWeights: number }): number => 3 * Math.max(32, blockWeights);

const toBytes = (values: Float32Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

function countBits(byte: number): number {
  return byte === 0 ? 0 : (byte & 1) + countBits(byte >> 1);
}

describe.each(weightFormats)('$type', (format) => {
  const COLS = getCols(format);
  const bytes = golden(`dequantized-${format.type}.bin`);
  const fileBytes = getFileBytes(format, ROWS * COLS);
  const file = bytes.slice(0, fileBytes);
  const expected = bytes.slice(fileBytes);

  it('reads the file layout as the gguf package does, to the last bit', () => {
    expect(toBytes(format.dequantizeFile(file, ROWS * COLS))).toEqual(expected);
  });

  it('reads the kernel layout as the gguf package reads the file, to the last bit', () => {
    const packed = new Uint8Array(format.getPackedBytes(ROWS, COLS));
    format.pack(file, ROWS, COLS, packed, 0);
    expect(toBytes(format.dequantize(packed, ROWS, COLS))).toEqual(expected);
  });

  it('packs without loss, at an offset, from an odd address, and touches nothing else', () => {
    const packedBytes = format.getPackedBytes(ROWS, COLS);
    expect(packedBytes % 16).toBe(0);
    const odd = new Uint8Array(fileBytes + 1).subarray(1);
    odd.set(file);
    const out = new Uint8Array(packedBytes + 48).fill(0xaa);
    format.pack(odd, ROWS, COLS, out, 32);
    expect(out.subarray(0, 32)).toEqual(new Uint8Array(32).fill(0xaa));
    expect(out.subarray(32 + packedBytes)).toEqual(new Uint8Array(16).fill(0xaa));
    expect(format.unpack(out.slice(32, 32 + packedBytes), ROWS, COLS)).toEqual(file);
    // Every bit of the file is in the packed matrix, and in one place only.
    for (let at = 0; at < format.blockBytes; at++) {
      const flipped = file.slice();
      flipped[at] = file[at]! ^ (1 << (at % 8));
      const other = new Uint8Array(packedBytes);
      format.pack(flipped, ROWS, COLS, other, 0);
      const changed = other.reduce((sum, byte, i) => sum + countBits(byte ^ out[32 + i]!), 0);
      expect(changed, `byte ${at}`).toBe(1);
    }
  });

  it('packs some rows at a time to the same bytes', () => {
    const out = [0, 0xaa].map((fill) => new Uint8Array(format.getPackedBytes(ROWS, COLS)).fill(fill));
    format.pack(file, ROWS, COLS, out[0]!, 0);
    for (let firstRow = 0; firstRow < ROWS; firstRow += 2) {
      format.pack(file, ROWS, COLS, out[1]!, 0, { firstRow, endRow: Math.min(ROWS, firstRow + 2) });
    }
    expect(out[1]).toEqual(out[0]);
  });

  it('lays its planes out one behind the other, each at a multiple of 16 bytes', () => {
    const units = (ROWS * COLS) / 32;
    let end = 0;
    const offsets = getPlaneOffsets(format, ROWS, COLS);
    for (const [plane, bytesPer32] of format.planeBytesPer32.entries()) {
      expect(offsets[plane]).toBe(end);
      end = Math.ceil((end + units * bytesPer32) / 16) * 16;
    }
    expect(format.getPackedBytes(ROWS, COLS)).toBe(end);
    const bits = format.planeBytesPer32.reduce((sum, bytesPer32) => sum + bytesPer32, 0) / 4;
    // Q3_K's scales have a byte each, where the file has six bits.
    const fileBits = (8 * format.blockBytes) / format.blockWeights + (format.type === 'q3_k' ? 0.125 : 0);
    expect(bits).toBe(fileBits);
  });

  it('refuses bytes that are not the matrix', () => {
    const out = new Uint8Array(format.getPackedBytes(ROWS, COLS));
    expect(() => format.pack(file.subarray(1), ROWS, COLS, out, 0)).toThrow(/assertion failed/);
    expect(() => format.dequantizeFile(file, ROWS * COLS + 256)).toThrow(/assertion failed/);
  });

  it('is found by its GGUF number', () => {
    expect(findGgmlFormat(format.ggmlType)).toBe(format);
    expect(getWeightFormat(format.type)).toBe(format);
  });
});

it('widens every binary16 pattern exactly', () => {
  const values = Float32Array.from({ length: 65_536 }, (_, bits) => decodeF16(bits)).filter(
    (value) => !Number.isNaN(value),
  );
  const digest = createHash('sha256').update(toBytes(values)).digest('hex');
  expect(digest).toBe(new TextDecoder().decode(golden('f16-values.sha256')).trim());
});

it.each(['q4_0', 'q6_k'] as const)('packs 15 MB of %s in a second, on a slow machine in three', (type) => {
  const format = getWeightFormat(type);
  const rows = 8192;
  const cols = 3072;
  const file = new Uint8Array(getFileBytes(format, rows * cols));
  const out = new Uint8Array(format.getPackedBytes(rows, cols));
  const getSpentMs = startSpentTime();
  format.pack(file, rows, cols, out, 0);
  expect(getSpentMs()).toBeLessThan(3000);
});
