import { expect, it } from 'vitest';
import { foldGrid } from '../../../src/kernels/command';

it.each([1, 2, 65_535, 65_536, 65_537, 262_144, 3_000_001])('spreads %i workgroups over two dimensions', (groups) => {
  const [y, z] = foldGrid(groups);
  expect(y).toBeLessThanOrEqual(65_535);
  expect(y * z).toBeGreaterThanOrEqual(groups);
  expect(y * z - groups).toBeLessThan(z);
});
