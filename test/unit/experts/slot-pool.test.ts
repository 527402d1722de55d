import { describe, expect, it } from 'vitest';
import { getPoolParts, getPoolRequests } from '../../../src/experts/slot-pool';
import { createRandom } from '../random';
import { buildTestManifest } from '../test-manifest';

describe('getPoolParts', () => {
  it('keeps a layer in one buffer where the binding limit allows it', () => {
    expect(getPoolParts(8, 100, 800)).toEqual([{ firstSlot: 0, slots: 8 }]);
  });

  it('splits at the binding limit, the last buffer taking the rest', () => {
    expect(getPoolParts(8, 100, 399)).toEqual([
      { firstSlot: 0, slots: 3 },
      { firstSlot: 3, slots: 3 },
      { firstSlot: 6, slots: 2 },
    ]);
  });

  it('covers every slot once and never exceeds the limit', () => {
    const random = createRandom(1);
    for (let i = 0; i < 500; i++) {
      const slots = random.integer(1, 200);
      const pageBytes = random.integer(1, 5000) * 16;
      const bindingBytes = pageBytes + random.integer(0, 300_000);
      const parts = getPoolParts(slots, pageBytes, bindingBytes);
      let next = 0;
      for (const part of parts) {
        expect(part.firstSlot).toBe(next);
        expect(part.slots * pageBytes).toBeLessThanOrEqual(bindingBytes);
        next += part.slots;
      }
      expect(next).toBe(slots);
    }
  });
});

describe('getPoolRequests', () => {
  it('asks for exactly the pages of every layer', async () => {
    const { pageLayouts } = await buildTestManifest({ experts: 7, layers: 3 });
    const pageBytes = pageLayouts[0]?.pageBytes as number;
    const requests = getPoolRequests(pageLayouts, 5, pageBytes * 2);
    expect(requests).toHaveLength(3 * 3);
    expect(requests.reduce((sum, request) => sum + request.sizeBytes, 0)).toBe(3 * 5 * pageBytes);
    expect(requests.every((request) => request.kind === 'storage')).toBe(true);
  });
});
