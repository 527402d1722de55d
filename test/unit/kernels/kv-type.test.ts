import { expect, test } from 'vitest';
import { chooseKvType } from '../../../src/kernels/kv-type';

test('auto follows the adapter, a named type does not, and f32 is the default', () => {
  expect([chooseKvType(true, 'auto'), chooseKvType(false, 'auto')]).toEqual(['f16', 'f32']);
  for (const type of ['f32', 'f16', 'q8'] as const) {
    expect([chooseKvType(true, type), chooseKvType(false, type)]).toEqual([type, type]);
  }
  expect([chooseKvType(true), chooseKvType(false)]).toEqual(['f32', 'f32']);
});
