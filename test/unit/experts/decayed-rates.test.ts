import { expect, test } from 'vitest';
import { createDecayedRates } from '../../../src/experts/decayed-rates';

/** Two rates by definition: every use, weighted by its age. */
function getRates(history: readonly number[], experts: number, usesPerToken: number): number[] {
  return Array.from({ length: experts }, (_, expert) => {
    let rate = 0;
    for (const tokens of [16, 256]) {
      const keep = 2 ** (-1 / (tokens * usesPerToken));
      for (const [at, used] of history.entries()) {
        if (used === expert) rate += keep ** (history.length - 1 - at) * (1 - keep);
      }
    }
    return rate;
  });
}

test('evicts the page with the lowest sum of two decayed use rates', () => {
  const policy = createDecayedRates(8, 2);
  const history: number[] = [];
  let state = 1;
  for (let step = 0; step < 600; step++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    const expert = Math.floor(((state >>> 8) / 2 ** 24) ** 2 * 8);
    policy.use(expert);
    history.push(expert);
    if (step % 50 !== 49) continue;
    const rates = getRates(history, 8, 2);
    for (const [index, rate] of rates.entries()) expect(policy.getRate(index)).toBeCloseTo(rate, 12);
    const lowest = rates.indexOf(Math.min(...rates));
    expect(policy.getVictim([0, 1, 2, 3, 4, 5, 6, 7])).toBe(lowest);
  }
});

test('one old burst outlives a single recent use, unlike under LRU', () => {
  const policy = createDecayedRates(3, 1);
  for (let step = 0; step < 40; step++) policy.use(0);
  policy.use(1);
  expect(policy.getVictim([0, 1])).toBe(1);
});

test('never used experts go first, the lowest id before the others', () => {
  const policy = createDecayedRates(4, 1);
  policy.use(1);
  expect(policy.getVictim([3, 2, 1])).toBe(2);
});

test('an unused prefetch enters in the middle, and loses that when it is evicted', () => {
  const policy = createDecayedRates(5, 1);
  for (const expert of [0, 1, 1, 2, 2, 2, 3, 3, 3, 3]) policy.use(expert);
  policy.insertUnused(4);
  expect(policy.getVictim([1, 2, 3, 4, 0])).toBe(0);
  expect(policy.getRate(4)).toBeGreaterThan(policy.getRate(0));
  expect(policy.getRate(4)).toBeLessThan(policy.getRate(3));
  expect(policy.getVictim([4])).toBe(4);
  expect(policy.getRate(4)).toBe(0);
});

test('rates stay finite and in order over millions of uses', () => {
  const policy = createDecayedRates(3, 1);
  for (let step = 0; step < 200_000; step++) policy.use(step % 10 === 0 ? 1 : 0);
  expect(policy.getRate(0)).toBeCloseTo(1.8, 1);
  expect(policy.getRate(1)).toBeCloseTo(0.2, 1);
  expect(policy.getVictim([0, 1])).toBe(1);
});
