/**
 * Which experts of one layer hold which slots, and what changes when others are needed or expected.
 * Pure book-keeping: moves no bytes, so a plan that is not carried out costs nothing.
 */
import { assert } from '../errors';
import { createLru, type EvictionPolicy } from './eviction';

/** A page to bring in, and the slot that takes it. */
export interface Placement {
  readonly expert: number;
  readonly slot: number;
  /** The expert that loses the slot, or null when it was free. */
  readonly evicted: number | null;
  /** Whether the evicted page had been prefetched and never used. */
  readonly wasted: boolean;
}

export class LayerResidency {
  /** Slot by expert; -1 = absent. */
  readonly #slotOf: Int32Array;
  #freeSlots: number[];
  #slots: number;
  /** Prefetched and not used yet. */
  readonly #unused = new Set<number>();

  constructor(
    experts: number,
    slots: number,
    private readonly policy: EvictionPolicy = createLru(experts),
  ) {
    this.#slotOf = new Int32Array(experts).fill(-1);
    this.#freeSlots = listFreeSlots(slots);
    this.#slots = slots;
  }

  get slots(): number {
    return this.#slots;
  }

  /** How many experts hold a slot. */
  get residents(): number {
    return this.#slots - this.#freeSlots.length;
  }

  getSlot(expert: number): number | null {
    const slot = this.#slotOf[expert] ?? -1;
    return slot < 0 ? null : slot;
  }

  isResident(expert: number): boolean {
    return this.getSlot(expert) !== null;
  }

  getResidents(): number[] {
    return [...this.#slotOf.keys()].filter((expert) => this.isResident(expert));
  }

  /**
   * Notes that tokens used these experts, in this order.
   * @returns how many of them were resident because they had been prefetched.
   */
  use(experts: Iterable<number>): number {
    let useful = 0;
    for (const expert of experts) {
      this.policy.use(expert);
      if (this.#unused.delete(expert)) useful++;
    }
    return useful;
  }

  /**
   * Makes `experts` resident and pins them while doing so. Their number is at most `slots`.
   * @returns what has to be uploaded, in order.
   */
  place(experts: readonly number[]): Placement[] {
    const pinned = new Set(experts);
    assert(pinned.size <= this.#slots, `${pinned.size} experts fit into ${this.#slots} slots`);
    const placements: Placement[] = [];
    for (const expert of pinned) {
      if (!this.isResident(expert)) placements.push(this.#bringIn(expert, pinned) as Placement);
    }
    return placements;
  }

  /**
   * `place` for one wave of a layer's expected experts. What leaves for it may have been used by the wave before: it counts as
   * useful if `use` says so.
   */
  placeWave(experts: readonly number[]): Placement[] {
    const placements = this.place(experts);
    for (const { expert, evicted, wasted } of placements) {
      this.policy.insertUnused(expert);
      this.#unused.add(expert);
      if (wasted) this.#unused.add(evicted as number);
    }
    return placements;
  }

  /**
   * Makes room for a page that is expected, not needed yet, without evicting a pinned one.
   * @returns null when every slot is pinned.
   */
  placeAhead(expert: number, pinned: ReadonlySet<number>): Placement | null {
    assert(!this.isResident(expert), `expert ${expert} is absent`);
    const placement = this.#bringIn(expert, pinned);
    if (placement) {
      this.policy.insertUnused(expert);
      this.#unused.add(expert);
    }
    return placement;
  }

  /**
   * Changes the number of slots; every slot is new then.
   * @returns the pages that stay, with their new slots: the ones that the policy would evict last.
   */
  resize(slots: number): Placement[] {
    const kept = this.getResidents();
    while (kept.length > slots) {
      const victim = this.policy.getVictim(kept);
      kept.splice(kept.indexOf(victim), 1);
      this.#unused.delete(victim);
    }
    this.#slotOf.fill(-1);
    this.#slots = slots;
    this.#freeSlots = listFreeSlots(slots);
    return kept.map((expert) => this.#bringIn(expert, new Set()) as Placement);
  }

  /** Makes a page absent: its slot is free. */
  remove(expert: number): void {
    const slot = this.getSlot(expert);
    if (slot === null) return;
    this.#slotOf[expert] = -1;
    this.#unused.delete(expert);
    this.#freeSlots.push(slot);
  }

  /** Pages that were prefetched so far are treated as used, when it comes to what was useful or wasted. */
  forgetUnused(): void {
    this.#unused.clear();
  }

  #bringIn(expert: number, pinned: ReadonlySet<number>): Placement | null {
    let slot = this.#freeSlots.pop();
    let evicted: number | null = null;
    let wasted = false;
    if (slot === undefined) {
      const candidates = this.getResidents().filter((resident) => !pinned.has(resident));
      if (candidates.length === 0) return null;
      evicted = this.policy.getVictim(candidates);
      wasted = this.#unused.delete(evicted);
      slot = this.#slotOf[evicted] as number;
      this.#slotOf[evicted] = -1;
    }
    this.#slotOf[expert] = slot;
    // Left over from a wave, if it was expected before.
    this.#unused.delete(expert);
    return { expert, slot, evicted, wasted };
  }
}

/** Popped from the end: slot 0 first. */
function listFreeSlots(slots: number): number[] {
  return Array.from({ length: slots }, (_, i) => slots - 1 - i);
}
