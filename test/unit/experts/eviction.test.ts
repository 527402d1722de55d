import { describe, expect, it } from 'vitest';
import { createLru } from '../../../src/experts/eviction';

describe('createLru', () => {
  it('gives the candidate whose last use is longest ago', () => {
    const lru = createLru(4);
    for (const expert of [0, 1, 2, 3, 0]) lru.use(expert);
    expect(lru.getVictim([0, 1, 2, 3])).toBe(1);
    expect(lru.getVictim([0, 3, 2])).toBe(2);
  });

  it('gives never used experts before used ones, the lowest id first', () => {
    const lru = createLru(5);
    lru.use(0);
    expect(lru.getVictim([0, 2, 3, 4])).toBe(2);
  });

  it('does not depend on the order of the candidates', () => {
    const lru = createLru(3);
    for (const expert of [2, 0, 1]) lru.use(expert);
    expect(lru.getVictim([1, 0, 2])).toBe(2);
    expect(lru.getVictim([2, 1, 0])).toBe(2);
  });
});
