/**
 * Which experts of one layer hold which slots, and what changes when others are needed.
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
}

export class LayerResidency {
  /** Slot by expert; -1 = absent. */
  readonly #slotOf: Int32Array;
  readonly #freeSlots: number[];

  constructor(
    experts: number,
    readonly slots: number,
    private readonly policy: EvictionPolicy = createLru(experts),
  ) {
    this.#slotOf = new Int32Array(experts).fill(-1);
    this.#freeSlots = Array.from({ length: slots }, (_, i) => slots - 1 - i);
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

  /** Notes that tokens used these experts, in this order. */
  use(experts: Iterable<number>): void {
    for (const expert of experts) this.policy.use(expert);
  }

  /**
   * Makes `experts` resident and pins them while doing so. Their number is at most `slots`.
   * @returns what has to be uploaded, in order.
   */
  place(experts: readonly number[]): Placement[] {
    const pinned = new Set(experts);
    assert(pinned.size <= this.slots, `${pinned.size} experts fit into ${this.slots} slots`);
    const placements: Placement[] = [];
    for (const expert of pinned) {
      if (this.isResident(expert)) continue;
      const free = this.#freeSlots.pop();
      let evicted: number | null = null;
      let slot = free;
      if (slot === undefined) {
        evicted = this.policy.getVictim(this.getResidents().filter((resident) => !pinned.has(resident)));
        slot = this.#slotOf[evicted] as number;
        this.#slotOf[evicted] = -1;
      }
      this.#slotOf[expert] = slot;
      placements.push({ expert, slot, evicted });
    }
    return placements;
  }
}
