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
});
