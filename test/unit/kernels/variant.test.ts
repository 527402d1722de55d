import { expect, test } from 'vitest';
import { chooseVariant } from '../../../src/kernels/variant';

const quad = { subgroupSize: 4, hasPackedDot: true, hasF16: true, subgroupMatrices: [], isSoftware: true };
const none = { subgroupSize: null, hasPackedDot: false, hasF16: false, subgroupMatrices: [], isSoftware: false };

test('subgroups of one size are used unless they are forbidden', () => {
  expect(chooseVariant(quad)).toMatchObject({ name: 'subgroup-4', reduce: 'subgroup' });
  expect(chooseVariant(quad, { subgroups: true })).toEqual(chooseVariant(quad));
  expect(chooseVariant(quad, { subgroups: false })).toMatchObject({ name: 'workgroup-4', reduce: 'workgroup' });
  expect(chooseVariant(none)).toMatchObject({ name: 'workgroup-64-split-8', reduce: 'workgroup' });
});

test('activations are rounded only when that is asked for', () => {
  expect(chooseVariant(quad).products).toBe('plain');
  expect(chooseVariant(quad, { packedDot: true })).toMatchObject({ name: 'subgroup-4-packed', products: 'packed' });
  expect(chooseVariant(quad, { f16: true })).toMatchObject({ name: 'subgroup-4-f16', products: 'f16' });
  expect(() => chooseVariant(quad, { f16: true, packedDot: true })).toThrow(
    expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringContaining('leave one') }),
  );
});

test("a head's positions go to several workgroups where these run side by side, and as is asked for", () => {
  expect(chooseVariant(quad).attentionSpans).toBe(1);
  expect(chooseVariant(none)).toMatchObject({ name: 'workgroup-64-split-8', attentionSpans: 8 });
  expect(chooseVariant(quad, { attentionSpans: 3 })).toMatchObject({ name: 'subgroup-4-split-3', attentionSpans: 3 });
  for (const attentionSpans of [0, 9, 1.5, Number.NaN]) {
    expect(() => chooseVariant(quad, { attentionSpans })).toThrow(
      expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringContaining(`${attentionSpans} spans`) }),
    );
  }
});

test('what is forced and not there is refused, with the remedy', () => {
  for (const forced of [{ subgroups: true }, { packedDot: true }, { f16: true }, { subgroupMatrix: true }]) {
    expect(() => chooseVariant(none, forced)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringContaining('leave the option out') }),
    );
  }
});

const eight = { rows: 8, columns: 8, depth: 8 };

test('tiles take the largest subgroup matrices that fit them, and only where they are asked for', () => {
  const traits = { ...quad, subgroupSize: 32, subgroupMatrices: [eight, { rows: 16, columns: 16, depth: 16 }] };
  const larger = { rows: 16, columns: 8, depth: 16 };
  expect(chooseVariant(traits).matrix).toBeNull();
  expect(chooseVariant(traits, { subgroupMatrix: true })).toMatchObject({
    name: 'subgroup-32-matrix-8x8x8',
    matrix: { ...eight, lanes: 32 },
  });
  const both = { ...traits, subgroupMatrices: [eight, larger] };
  expect(chooseVariant(both, { subgroupMatrix: true }).matrix).toEqual({ ...larger, lanes: 32 });
  expect(() => chooseVariant(both, { subgroupMatrix: true, tuning: { expertLanes: 64 } })).toThrow(
    expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringContaining('the 32 lanes of one subgroup') }),
  );
});

test('subgroup matrices that no tile can be made of are refused by their sizes', () => {
  const wide = { rows: 8, columns: 16, depth: 16 };
  for (const traits of [
    { ...quad, subgroupMatrices: [wide] },
    { ...quad, subgroupMatrices: [wide, eight], subgroupSize: null },
    { ...quad, subgroupMatrices: [wide, eight], hasF16: false },
    { ...quad, subgroupMatrices: [wide, { rows: 32, columns: 8, depth: 8 }] },
  ]) {
    expect(() => chooseVariant(traits, { subgroupMatrix: true })).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringContaining('this adapter lists 8x16x16') }),
    );
  }
});
