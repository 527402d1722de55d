import { expect, test } from 'vitest';
import { chooseVariant } from '../../../src/kernels/variant';

const quad = { subgroupSize: 4, isSoftware: true };
const none = { subgroupSize: null, isSoftware: false };

test('subgroups of one size are used unless they are forbidden', () => {
  expect(chooseVariant(quad)).toMatchObject({ name: 'subgroup-4', reduce: 'subgroup' });
  expect(chooseVariant(quad, { subgroups: true })).toEqual(chooseVariant(quad));
  expect(chooseVariant(quad, { subgroups: false })).toMatchObject({ name: 'workgroup-4', reduce: 'workgroup' });
  expect(chooseVariant(none)).toMatchObject({ name: 'workgroup-64', reduce: 'workgroup' });
});

test('what is forced and not there is refused, with the remedy', () => {
  expect(() => chooseVariant(none, { subgroups: true })).toThrow(
    expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringContaining('leave the option out') }),
  );
});
