import { expect, test } from 'vitest';
import { getReadProbability, getUploadProbability, getWaitProbability } from '../../../src/experts/prefetch-cost';

test('where an upload costs nothing beside a fault, what is displaced decides alone', () => {
  expect(getUploadProbability({ faultMs: 1, uploadMs: 0 })).toBeCloseTo(0.13);
  expect(getUploadProbability({ faultMs: 0, uploadMs: 0 })).toBeCloseTo(0.13);
});

test('a large page is brought in only when its use is nearly sure', () => {
  // A Mixtral expert: 10 ms at 10 GB/s, for a round trip of one.
  expect(getUploadProbability({ faultMs: 1, uploadMs: 10 })).toBeGreaterThan(0.9);
  expect(getUploadProbability({ faultMs: 10, uploadMs: 10 })).toBeCloseTo(0.565);
});

test('a slow store asks for more certainty than RAM, and for no more than even odds by itself', () => {
  const costs = { faultMs: 1, uploadMs: 0.1 };
  expect(getReadProbability(costs, 4)).toBeGreaterThan(getUploadProbability(costs));
  expect(getReadProbability(costs, 4)).toBeLessThan(0.5);
  expect(getReadProbability(costs, 0)).toBeCloseTo(getUploadProbability(costs));
});

test('thresholds rise with the bytes, and fall with the round trip', () => {
  for (let step = 1; step < 30; step++) {
    const [costs, more] = [step - 1, step].map((uploadMs) => ({ faultMs: 2, uploadMs })) as [never, never];
    expect(getUploadProbability(more)).toBeGreaterThanOrEqual(getUploadProbability(costs));
    const [short, long] = [step, step + 1].map((faultMs) => ({ faultMs, uploadMs: 1 })) as [never, never];
    expect(getUploadProbability(long)).toBeLessThanOrEqual(getUploadProbability(short));
  }
});

test('waiting for a read pays where the read is short beside a round trip, and hardly ever where it is long', () => {
  expect(getWaitProbability({ faultMs: 15, uploadMs: 0.1 }, 0.2)).toBeLessThan(0.2);
  expect(getWaitProbability({ faultMs: 1, uploadMs: 0.1 }, 9)).toBeGreaterThan(0.9);
  const costs = { faultMs: 3, uploadMs: 1 };
  expect(getWaitProbability(costs, 0)).toBeCloseTo(getUploadProbability(costs));
});
