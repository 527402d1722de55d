import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { findGgmlFormat, getWeightFormat, weightFormats } from '../../../src/checkpoint/formats';
import { decodeF16 } from '../../../src/checkpoint/formats/f16';
import { getFileBytes, getScalesOffsetBytes } from '../../../src/checkpoint/formats/weight-format';

const golden = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`../../golden/${name}`, import.meta.url)));

// As test/oracle/make_dequantized.py writes them.
const ROWS = 3;
const COLS = 96;

const toBytes = (values: Float32Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

describe.each(weightFormats)('$type', (format) => {
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
  });

  it('lays data out as dataBytesPer32 and scales as scaleBytesPer32 say', () => {
    const units = (ROWS * COLS) / 32;
    const scales = Math.ceil((units * format.scaleBytesPer32) / 16) * 16;
    expect(getScalesOffsetBytes(format, ROWS, COLS)).toBe(units * format.dataBytesPer32);
    expect(format.getPackedBytes(ROWS, COLS)).toBe(units * format.dataBytesPer32 + scales);
  });

  it('refuses bytes that are not the matrix', () => {
    const out = new Uint8Array(format.getPackedBytes(ROWS, COLS));
    expect(() => format.pack(file.subarray(1), ROWS, COLS, out, 0)).toThrow(/assertion failed/);
    expect(() => format.dequantizeFile(file, ROWS * COLS + 32)).toThrow(/assertion failed/);
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

it('packs 15 MB of Q4_0 in well under a second', () => {
  const format = getWeightFormat('q4_0');
  const rows = 8192;
  const cols = 3200;
  const file = new Uint8Array(getFileBytes(format, rows * cols));
  const out = new Uint8Array(format.getPackedBytes(rows, cols));
  const start = performance.now();
  format.pack(file, rows, cols, out, 0);
  expect(performance.now() - start).toBeLessThan(800);
});
