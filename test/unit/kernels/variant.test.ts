import { expect, test } from 'vitest';
import { chooseVariant } from '../../../src/kernels/variant';

const quad = { subgroupSize: 4, hasPackedDot: true, hasF16: true, isSoftware: true };
const none = { subgroupSize: null, hasPackedDot: false, hasF16: false, isSoftware: false };

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
  for (const forced of [{ subgroups: true }, { packedDot: true }, { f16: true }]) {
    expect(() => chooseVariant(none, forced)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringContaining('leave the option out') }),
    );
  }
});
