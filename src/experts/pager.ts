/**
 * Fault -> read -> upload -> map. Owns what is resident, in book-keeping and on the GPU alike, and the paging counters.
 * Never decides when a pass runs; the engine calls it between submissions.
 */
import { getPageKey } from '../checkpoint/manifest';
import type { PageTable } from './page-table';
import { LayerResidency, type Placement } from './residency';
import type { SlotPool } from './slot-pool';

/** Reads a page's bytes by record key, verified. */
export type PageReader = (key: string) => Promise<Uint8Array>;

export interface PagingCounters {
  /** Pages that tokens needed, counted once per layer and pass. */
  needed: number;
  /** Of these, the ones that were resident when needed. */
  present: number;
  /** Layers of passes with at least one page missing. */
  faultingLayers: number;
  /** Bytes uploaded because of a fault. */
  demandBytes: number;
}

export class Pager {
  readonly #layers: LayerResidency[];
  counters: PagingCounters = createCounters();

  constructor(
    moeLayers: number,
    private readonly experts: number,
    private readonly pool: SlotPool,
    private readonly table: PageTable,
    private readonly readPage: PageReader,
  ) {
    this.#layers = Array.from({ length: moeLayers }, () => new LayerResidency(experts, pool.slots));
    for (let moeLayer = 0; moeLayer < moeLayers; moeLayer++) this.map(moeLayer);
  }

  get slots(): number {
    return this.pool.slots;
  }

  /** Resident pages as a share of all pages, 0 to 1. */
  getResidentShare(): number {
    const resident = this.#layers.reduce((sum, layer) => sum + layer.getResidents().length, 0);
    return resident / (this.#layers.length * this.experts);
  }

  resetCounters(): void {
    this.counters = createCounters();
  }

  /**
   * Counts one event: the experts that a layer's tokens chose, in the order of use.
   * @returns the missing ones.
   */
  observe(moeLayer: number, needed: readonly number[]): number[] {
    const layer = this.#layer(moeLayer);
    const missing = needed.filter((expert) => !layer.isResident(expert));
    layer.use(needed);
    this.counters.needed += needed.length;
    this.counters.present += needed.length - missing.length;
    if (missing.length > 0) this.counters.faultingLayers++;
    return missing;
  }

  /**
   * Makes experts resident: at most as many as there are slots. Reads come first, so that a failing one changes nothing.
   * @returns bytes uploaded.
   */
  async ensure(moeLayer: number, experts: readonly number[]): Promise<number> {
    const layer = this.#layer(moeLayer);
    const missing = experts.filter((expert) => !layer.isResident(expert));
    const pages = new Map(
      await Promise.all(
        missing.map(async (expert) => [expert, await this.readPage(getPageKey(moeLayer, expert))] as const),
      ),
    );
    let uploadedBytes = 0;
    for (const placement of layer.place(experts)) uploadedBytes += this.#upload(moeLayer, placement, pages);
    this.map(moeLayer);
    return uploadedBytes;
  }

  /**
   * Splits needed experts into sets that fit the slots, resident ones first; `last` (what comes next will want them) end up
   * in the last set.
   */
  planWaves(moeLayer: number, needed: readonly number[], last: readonly number[]): number[][] {
    const layer = this.#layer(moeLayer);
    const keep = new Set(last);
    const rank = (expert: number): number => (keep.has(expert) ? 2 : layer.isResident(expert) ? 0 : 1);
    const ordered = [...needed].sort((a, b) => rank(a) - rank(b) || a - b);
    const waves: number[][] = [];
    // Filled from the back: the last wave is whole, the first takes the remainder.
    while (ordered.length > 0) waves.unshift(ordered.splice(-this.slots));
    return waves;
  }

  /** Writes a layer's row of the page table; with `only`, experts outside of it appear absent (they keep their slots). */
  map(moeLayer: number, only?: readonly number[]): void {
    const layer = this.#layer(moeLayer);
    const visible = only && new Set(only);
    this.table.writeRow(moeLayer, (expert) => (visible && !visible.has(expert) ? null : layer.getSlot(expert)));
  }

  #upload(moeLayer: number, { expert, slot }: Placement, pages: ReadonlyMap<number, Uint8Array>): number {
    const page = pages.get(expert) as Uint8Array;
    this.pool.write(moeLayer, slot, page);
    return page.byteLength;
  }

  #layer(moeLayer: number): LayerResidency {
    return this.#layers[moeLayer] as LayerResidency;
  }
}

function createCounters(): PagingCounters {
  return { needed: 0, present: 0, faultingLayers: 0, demandBytes: 0 };
}
