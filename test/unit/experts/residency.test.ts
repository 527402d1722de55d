import { describe, expect, it } from 'vitest';
import { LayerResidency } from '../../../src/experts/residency';
import { createRandom } from '../random';

describe('LayerResidency', () => {
  it('starts with no page resident', () => {
    const layer = new LayerResidency(4, 2);
    expect(layer.getResidents()).toEqual([]);
    expect(layer.getSlot(0)).toBeNull();
  });

  it('fills free slots from slot 0 before it evicts', () => {
    const layer = new LayerResidency(4, 3);
    expect(layer.place([3, 1])).toMatchObject([
      { expert: 3, slot: 0, evicted: null },
      { expert: 1, slot: 1, evicted: null },
    ]);
    expect(layer.place([0])).toMatchObject([{ expert: 0, slot: 2, evicted: null }]);
    expect(layer.getResidents()).toEqual([0, 1, 3]);
  });

  it('evicts the least recently used unpinned page', () => {
    const layer = new LayerResidency(5, 3);
    layer.place([0, 1, 2]);
    layer.use([0, 1, 2]);
    layer.use([0]);
    expect(layer.place([3])).toMatchObject([{ expert: 3, slot: 1, evicted: 1 }]);
    expect(layer.getSlot(1)).toBeNull();
    expect(layer.getSlot(3)).toBe(1);
  });

  it('never evicts a page that the same call asks for, however old it is', () => {
    const layer = new LayerResidency(5, 3);
    layer.place([0, 1, 2]);
    layer.use([0, 1, 2]);
    expect(layer.place([0, 4])).toMatchObject([{ expert: 4, slot: 1, evicted: 1 }]);
    expect(layer.isResident(0)).toBe(true);
  });

  it('uploads nothing for what is resident, and each page once', () => {
    const layer = new LayerResidency(5, 3);
    layer.place([0, 1]);
    expect(layer.place([1, 0])).toEqual([]);
    expect(layer.place([2, 2])).toHaveLength(1);
  });

  it('refuses more experts than there are slots', () => {
    expect(() => new LayerResidency(5, 2).place([0, 1, 2])).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
  });

  it('keeps slots and pages one to one over random traces', () => {
    const random = createRandom(7);
    for (let round = 0; round < 50; round++) {
      const experts = random.integer(1, 12);
      const slots = random.integer(1, experts);
      const layer = new LayerResidency(experts, slots);
      for (let step = 0; step < 40; step++) {
        const wanted = random.sample(experts, random.integer(1, slots));
        const before = layer.getResidents();
        const placements = layer.place(wanted);
        layer.use(wanted);
        const residents = layer.getResidents();
        for (const expert of wanted) expect(residents).toContain(expert);
        const used = residents.map((expert) => layer.getSlot(expert));
        expect(new Set(used).size).toBe(residents.length);
        for (const slot of used) expect(slot).toSatisfy((s: number) => s >= 0 && s < slots);
        expect(residents.length).toBe(Math.min(slots, new Set([...before, ...wanted]).size));
        // A placement list tells the whole change.
        const told = new Set(before);
        for (const { expert, evicted } of placements) {
          if (evicted !== null) expect(told.delete(evicted)).toBe(true);
          told.add(expert);
        }
        expect([...told].sort((a, b) => a - b)).toEqual(residents);
      }
    }
  });

  it('counts a prefetched page as useful at its first use only', () => {
    const layer = new LayerResidency(4, 2);
    expect(layer.placeAhead(3, new Set([3]))).toMatchObject({ expert: 3, slot: 0, evicted: null });
    expect(layer.use([3, 0])).toBe(1);
    expect(layer.use([3])).toBe(0);
  });

  it('notes a prefetched page as wasted when it leaves unused', () => {
    const layer = new LayerResidency(4, 1);
    layer.placeAhead(3, new Set());
    expect(layer.placeAhead(2, new Set())).toMatchObject({ evicted: 3, wasted: true });
    layer.use([2]);
    expect(layer.placeAhead(1, new Set())).toMatchObject({ evicted: 2, wasted: false });
  });

  it('counts what left for the next wave as useful if it was used, and as wasted if not', () => {
    const layer = new LayerResidency(6, 2);
    layer.placeWave([0, 1]);
    expect(layer.placeWave([2, 3]).map(({ evicted }) => evicted)).toEqual([0, 1]);
    expect(layer.use([0, 2])).toBe(2);
    // What was never used is forgotten when it comes again on demand.
    layer.place([1]);
    expect(layer.use([1])).toBe(0);
  });

  it('forgets on request which pages wait for their first use', () => {
    const layer = new LayerResidency(4, 1);
    layer.placeAhead(3, new Set());
    layer.forgetUnused();
    expect(layer.use([3])).toBe(0);
    expect(layer.placeAhead(2, new Set())).toMatchObject({ wasted: false });
  });

  it('never evicts a pinned page ahead of use: with every slot pinned there is no room', () => {
    const layer = new LayerResidency(4, 2);
    layer.place([0, 1]);
    expect(layer.placeAhead(2, new Set([0, 1]))).toBeNull();
    expect(layer.getResidents()).toEqual([0, 1]);
    expect(layer.placeAhead(2, new Set([0]))).toMatchObject({ slot: 1, evicted: 1 });
  });

  it('refuses to bring in ahead what is resident', () => {
    const layer = new LayerResidency(4, 2);
    layer.place([0]);
    expect(() => layer.placeAhead(0, new Set())).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
  });

  it('evicts an unused prefetch before the recently used pages and behind the old ones', () => {
    const layer = new LayerResidency(5, 4);
    layer.place([0, 1, 2]);
    layer.use([0, 1, 2]);
    layer.placeAhead(3, new Set());
    // Mid-recency of [0 -> 1, 1 -> 2, 2 -> 3, 4 never, 3 never] is the use of 0, which has the lower id.
    expect(layer.place([4])).toMatchObject([{ evicted: 0 }]);
    expect(layer.place([0])).toMatchObject([{ evicted: 4 }]);
    layer.use([0]);
    expect(layer.place([4])).toMatchObject([{ evicted: 3, wasted: true }]);
  });

  it('keeps the pages that would be evicted last when slots become fewer, in new slots', () => {
    const layer = new LayerResidency(6, 4);
    layer.place([0, 1, 2, 3]);
    layer.use([2, 0, 3, 1]);
    expect(layer.resize(2)).toEqual([
      { expert: 1, slot: 0, evicted: null, wasted: false },
      { expert: 3, slot: 1, evicted: null, wasted: false },
    ]);
    expect(layer.slots).toBe(2);
    expect(layer.getResidents()).toEqual([1, 3]);
  });

  it('keeps every page when slots become more, and fills the rest before it evicts', () => {
    const layer = new LayerResidency(6, 2);
    layer.place([4, 5]);
    expect(layer.resize(3)).toMatchObject([
      { expert: 4, slot: 0 },
      { expert: 5, slot: 1 },
    ]);
    expect(layer.place([0])).toMatchObject([{ expert: 0, slot: 2, evicted: null }]);
  });

  it('gives the slot of a removed page to the next one', () => {
    const layer = new LayerResidency(4, 2);
    layer.place([0, 1]);
    layer.remove(0);
    layer.remove(3);
    expect(layer.getResidents()).toEqual([1]);
    expect(layer.place([2])).toMatchObject([{ slot: 0, evicted: null }]);
  });
});
