import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { getWeightFormat } from '../../../src/checkpoint/formats';
import { decodeF16 } from '../../../src/checkpoint/formats/f16';
import { encodeF16, measureError, quantize } from '../../../src/checkpoint/formats/quantize';

// As test/oracle/make_quantized.py writes it: values, then their Q8_0 blocks, then their Q4_0 blocks.
const golden = new Uint8Array(readFileSync(new URL('../../golden/quantized.bin', import.meta.url)));
const COUNT = 48 * 32;
const values = new Float32Array(golden.slice(0, 4 * COUNT).buffer);

describe('quantize', () => {
  it.each([
    ['q8_0', 4 * COUNT, 34],
    ['q4_0', 4 * COUNT + 48 * 34, 18],
  ] as const)('makes the blocks that the gguf package makes, to the last bit: %s', (type, start, blockBytes) => {
    expect(quantize(type, values)).toEqual(golden.slice(start, start + 48 * blockBytes));
  });

  it('measures what the rounding changed', () => {
    const some = values.subarray(7 * 32, 8 * 32);
    const blocks = quantize('q4_0', some);
    const rounded = getWeightFormat('q4_0').dequantizeFile(blocks, 32);
    const { errorSquares, weightSquares } = measureError('q4_0', some, blocks);
    expect(errorSquares).toBeCloseTo(
      rounded.reduce((sum, value, i) => sum + (value - some[i]!) ** 2, 0),
      12,
    );
    expect(errorSquares).toBeGreaterThan(0);
    expect(weightSquares).toBeCloseTo(
      some.reduce((sum, value) => sum + value ** 2, 0),
      12,
    );
  });
});

describe('encodeF16', () => {
  it('gives every binary16 value back', () => {
    for (let bits = 0; bits < 65_536; bits++) {
      const value = decodeF16(bits);
      if (!Number.isNaN(value)) expect(encodeF16(value)).toBe(bits);
    }
  });

  it('rounds to the nearest, ties to even, from every gap', () => {
    for (let bits = 0; bits < 0x7bff; bits += 7) {
      const [low, high] = [decodeF16(bits), decodeF16(bits + 1)];
      const middle = (low + high) / 2;
      expect(encodeF16(middle)).toBe(bits % 2 === 0 ? bits : bits + 1);
      expect(encodeF16(low + (high - low) * 0.49)).toBe(bits);
      expect(encodeF16(-(low + (high - low) * 0.51))).toBe(0x8000 | (bits + 1));
    }
    expect([65_519, 65_520, 1e30, Number.NaN].map(encodeF16)).toEqual([0x7bff, 0x7c00, 0x7c00, 0x7e00]);
  });
});
