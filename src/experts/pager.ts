/**
 * Fault -> read -> upload -> map. Owns what is resident, in book-keeping and on the GPU alike, and the paging counters.
 * Never decides when a pass runs, nor what is expected; the engine calls it between submissions.
 */
import { orAborted } from '../aborts';
import { getPageKey } from '../checkpoint/manifest';
import { getPageGroup, listGroupLayers, type MoeConfig } from '../checkpoint/model-config';
import { assert } from '../errors';
import type { StagedRange, StagingRing } from '../gpu/staging-ring';
import { pause } from '../store/pause';
import type { EvictionPolicy } from './eviction';
import type { HostCache } from './host-cache';
import { ABSENT, type PageTable, PROMISED } from './page-table';
import { getReadProbability, getWaitProbability, type PrefetchCosts } from './prefetch-cost';
import { LayerResidency, type Placement } from './residency';
import type { SlotPool } from './slot-pool';

/** Pages in host RAM at a time beside its budget, for the moment until they are uploaded. */
const MOST_AWAITED = 32;

export interface PagingCounters {
  /** Pages that tokens needed, counted once per layer and pass. */
  needed: number;
  /** Of these, the ones that were resident when needed. */
  present: number;
  /** Layers of passes with at least one page missing. */
  faultingLayers: number;
  /** Bytes uploaded because of a fault. */
  demandBytes: number;
  /** Bytes uploaded because they were expected. */
  aheadBytes: number;
  /** Of these, bytes of pages that were used before they were evicted. */
  usefulBytes: number;
  /** `needed`, `present` and `faultingLayers` of each MoE layer. */
  readonly byLayer: { needed: number; present: number; faults: number }[];
}

/** A page that may be needed soon. */
export interface ExpectedPage {
  readonly moeLayer: number;
  readonly expert: number;
  /** Probable enough to be brought in from host RAM; otherwise only kept where it is resident. */
  readonly isWanted: boolean;
  /** P(it is used); absent: as good as sure. */
  readonly probability?: number;
}

/** Experts of a layer in sets that fit its slots, each brought in behind the one before. */
export interface Waves {
  readonly moeLayer: number;
  readonly sets: readonly (readonly number[])[];
  /** Bytes of the absent ones, when all are expected and none is surely needed; null: they are read, and count as demanded. */
  readonly held: ReadonlyMap<number, Uint8Array> | null;
}

/**
 * Callers name MoE layers. Layers of one page group share its slots: what is brought in for one is there for the others, and
 * what is evicted for one is gone for them.
 */
export class Pager {
  readonly #groups: LayerResidency[];
  counters: PagingCounters;

  constructor(
    private readonly moeLayers: number,
    private readonly moe: Pick<MoeConfig, 'experts' | 'layersPerGroup'>,
    createPolicy: () => EvictionPolicy,
    private readonly pool: SlotPool,
    private readonly table: PageTable,
    private readonly host: HostCache,
    private readonly staging: StagingRing,
  ) {
    this.#groups = Array.from(
      { length: moeLayers / moe.layersPerGroup },
      (_, group) => new LayerResidency(moe.experts, pool.getSlots(group), createPolicy()),
    );
    this.counters = createCounters(moeLayers);
    for (const group of this.#groups.keys()) this.#mapGroup(group);
  }

  /** Slots of the group that has fewest; all have the same, but for a moment while they change. */
  get slots(): number {
    return Math.min(...this.#groups.map((group) => group.slots));
  }

  /** Resident pages as a share of all pages, 0 to 1. */
  getResidentShare(): number {
    const resident = this.#groups.reduce((sum, group) => sum + group.residents, 0);
    return resident / (this.#groups.length * this.moe.experts);
  }

  /** Bytes of the resident pages. */
  get residentBytes(): number {
    return this.#groups.reduce((sum, { residents }, group) => sum + residents * this.pool.getPageBytes(group), 0);
  }

  /** Whether MoE layers share their pages. */
  get sharesPages(): boolean {
    return this.moe.layersPerGroup > 1;
  }

  /** Whether every page is resident: then no pass can fault. */
  get isWhole(): boolean {
    return this.#groups.every((group) => group.residents === this.moe.experts);
  }

  getResidents(moeLayer: number): number[] {
    return this.#layer(moeLayer).getResidents();
  }

  isResident(moeLayer: number, expert: number): boolean {
    return this.#layer(moeLayer).isResident(expert);
  }

  /** Pages expected before are not counted as useful after: their uploads are not in the new counters either. */
  resetCounters(): void {
    for (const group of this.#groups) group.forgetUnused();
    this.counters = createCounters(this.moeLayers);
  }

  /** Notes that tokens of the text used these experts, in this order: what eviction goes by, and what makes a prefetch useful. */
  use(moeLayer: number, experts: readonly number[]): void {
    const pageBytes = this.pool.getPageBytes(this.#group(moeLayer));
    this.counters.usefulBytes += this.#layer(moeLayer).use(experts) * pageBytes;
  }

  /**
   * Counts one event: the experts that a layer's tokens chose, guessed tokens included.
   * @param shown those that the layer's waves brought in, when it ran in waves.
   * @returns the missing ones.
   */
  observe(moeLayer: number, needed: readonly number[], shown?: ReadonlySet<number>): number[] {
    const layer = this.#layer(moeLayer);
    const missing = needed.filter((expert) => !(shown ? shown.has(expert) : layer.isResident(expert)));
    this.counters.needed += needed.length;
    this.counters.present += needed.length - missing.length;
    if (missing.length > 0) this.counters.faultingLayers++;
    const own = this.counters.byLayer[moeLayer];
    assert(own, `MoE layer ${moeLayer} exists`);
    own.needed += needed.length;
    own.present += needed.length - missing.length;
    if (missing.length > 0) own.faults++;
    return missing;
  }

  /**
   * Makes experts resident: at most as many as there are slots. Reads come first, so that a failing one changes nothing.
   * @returns bytes uploaded.
   * @throws what reading throws, and the reason of an abort: a page may be behind a slow network.
   */
  async ensure(moeLayer: number, experts: readonly number[], signal?: AbortSignal): Promise<number> {
    const layer = this.#layer(moeLayer);
    const group = this.#group(moeLayer);
    const missing = experts.filter((expert) => !layer.isResident(expert));
    const reads = missing.map((expert) => this.#read(group, expert));
    let pages: readonly PageBytes[];
    try {
      pages = await orAborted(Promise.all(reads), signal);
    } catch (error) {
      for (const read of reads) read.then((page) => isStaged(page) && this.staging.giveBack(page)).catch(() => {});
      throw error;
    }
    const pageOf = new Map(missing.map((expert, i) => [expert, pages[i] as PageBytes]));
    let uploadedBytes = 0;
    for (const placement of layer.place(experts)) {
      uploadedBytes += this.#upload(group, placement, pageOf.get(placement.expert) as PageBytes);
    }
    this.staging.submit();
    this.map(moeLayer);
    return uploadedBytes;
  }

  /**
   * Reads expected pages into host RAM, in the place of what was expected before: those worth it behind what goes on, those
   * worth waiting for at once. Never fails.
   * @returns when the latter are there, or the time of a fault is over, which is all that waiting can spare.
   */
  async readAhead(expected: readonly ExpectedPage[], costs: PrefetchCosts): Promise<void> {
    const held: string[] = [];
    const reading: { key: string; probability: number; readMs: number }[] = [];
    for (const { moeLayer, expert, isWanted, probability = 1 } of expected) {
      if (!isWanted || this.isResident(moeLayer, expert)) continue;
      const key = this.#getKey(moeLayer, expert);
      const readMs = this.host.getReadMs(key);
      if (this.host.has(key)) held.push(key);
      else if (probability >= getReadProbability(costs, readMs)) reading.push({ key, probability, readMs });
    }
    // Across layers: the most probable first, whichever layer comes first.
    reading.sort((a, b) => b.probability - a.probability);
    let leftMs = costs.faultMs;
    const endOfAwaited = reading.findIndex(({ probability, readMs }) => {
      leftMs -= readMs;
      return leftMs < 0 || probability < getWaitProbability(costs, readMs);
    });
    const awaited = Math.min(endOfAwaited < 0 ? reading.length : endOfAwaited, MOST_AWAITED);
    const read = this.host.expect([...reading.map(({ key }) => key), ...held], awaited);
    if (awaited === 0) return;
    const end = new AbortController();
    await Promise.race([read, pause(costs.faultMs, end.signal)]).finally(() => end.abort());
  }

  /**
   * Uploads expected pages that are in host RAM, most expected first. Expected pages do not evict each other, nor those of a
   * layer that is about to go on.
   */
  prefetch(
    expected: readonly ExpectedPage[],
    next?: { readonly moeLayer: number; readonly needed: readonly number[] },
  ) {
    for (const [group, slots] of this.#groups.entries()) {
      const pages = expected.filter((page) => this.#group(page.moeLayer) === group);
      const pinned = new Set(pages.map((page) => page.expert));
      if (next && this.#group(next.moeLayer) === group) for (const expert of next.needed) pinned.add(expert);
      let changed = false;
      for (const { expert, isWanted } of pages) {
        if (!isWanted || slots.isResident(expert)) continue;
        const bytes = this.host.get(getPageKey(group, expert));
        if (!bytes) continue;
        const placement = slots.placeAhead(expert, pinned);
        if (!placement) break;
        this.counters.aheadBytes += this.#upload(group, placement, bytes);
        changed = true;
      }
      if (changed) this.#mapGroup(group);
    }
  }

  /**
   * Splits needed experts into sets that fit the slots, resident ones first; `last` (what comes next will want them) end up
   * in the last set.
   */
  planWaves(moeLayer: number, needed: readonly number[], last: readonly number[]): Waves {
    return { moeLayer, sets: this.#split(moeLayer, needed, last), held: null };
  }

  /**
   * Splits expected experts in the same way, in layers where more are wanted than there are slots, and that MoE layer
   * `endLayer` is behind. What is neither resident nor in host RAM is left out. None where layers share pages: what is
   * resident now may have left for another layer of the group by then.
   */
  planAhead(expected: readonly ExpectedPage[], endLayer: number): Waves[] {
    if (this.sharesPages) return [];
    return [...this.#groups.keys()].slice(0, endLayer).flatMap((moeLayer): Waves[] => {
      const layer = this.#layer(moeLayer);
      const wanted = expected.filter((page) => page.moeLayer === moeLayer && page.isWanted).map(({ expert }) => expert);
      if (wanted.length <= this.slots) return [];
      const held = new Map<number, Uint8Array>();
      for (const expert of wanted) {
        const bytes = layer.isResident(expert) ? undefined : this.host.get(this.#getKey(moeLayer, expert));
        if (bytes) held.set(expert, bytes);
      }
      const available = wanted.filter((expert) => layer.isResident(expert) || held.has(expert));
      return [{ moeLayer, sets: this.#split(moeLayer, available, []), held }];
    });
  }

  /** Makes one set of a layer's waves resident. @throws as `ensure`. */
  async ensureWave({ moeLayer, held }: Waves, set: readonly number[], signal?: AbortSignal): Promise<void> {
    if (!held) {
      this.counters.demandBytes += await this.ensure(moeLayer, set, signal);
      return;
    }
    for (const placement of this.#layer(moeLayer).placeWave(set)) {
      const bytes = held.get(placement.expert) as Uint8Array;
      this.counters.aheadBytes += this.#upload(this.#group(moeLayer), placement, bytes);
    }
  }

  /** Writes a layer's row of the page table as it is, and those of the layers that share its pages. */
  map(moeLayer: number): void {
    this.#mapGroup(this.#group(moeLayer));
  }

  /** Writes it as one wave needs it: the experts of its set in their slots, those of the other sets promised. */
  mapWave({ moeLayer, sets }: Waves, set: readonly number[]): void {
    const layer = this.#layer(moeLayer);
    const promised = new Set(sets.flat());
    this.table.writeRow(moeLayer, (expert) => {
      if (set.includes(expert)) return layer.getSlot(expert) ?? ABSENT;
      return promised.has(expert) ? PROMISED : ABSENT;
    });
  }

  /**
   * Fills a group's slots anew after the pool changed: the pages that stay, from host RAM or the store. Never fails: a page
   * that cannot be read is absent, and the error is reported when the page is needed.
   */
  async refill(group: number, slots: number): Promise<void> {
    const residency = this.#groups[group] as LayerResidency;
    for (const placement of residency.resize(slots)) {
      const page = await this.#read(group, placement.expert).catch(() => null);
      if (page) this.#upload(group, placement, page);
      else residency.remove(placement.expert);
      this.staging.submit();
    }
    this.#mapGroup(group);
  }

  #mapGroup(group: number): void {
    const residency = this.#groups[group] as LayerResidency;
    for (const moeLayer of listGroupLayers(this.moe, group))
      this.table.writeRow(moeLayer, (expert) => residency.getSlot(expert) ?? ABSENT);
  }

  #split(moeLayer: number, experts: readonly number[], last: readonly number[]): number[][] {
    const layer = this.#layer(moeLayer);
    const keep = new Set(last);
    const rank = (expert: number): number => (keep.has(expert) ? 2 : layer.isResident(expert) ? 0 : 1);
    const ordered = [...experts].sort((a, b) => rank(a) - rank(b) || a - b);
    const sets: number[][] = [];
    // Filled from the back: the last set is whole, the first takes the remainder.
    while (ordered.length > 0) sets.unshift(ordered.splice(-this.slots));
    return sets;
  }

  /** A needed page: through RAM, or past it where RAM would not keep it and mapped memory is free. @throws what reading throws. */
  async #read(group: number, expert: number): Promise<PageBytes> {
    const key = getPageKey(group, expert);
    const pageBytes = this.pool.getPageBytes(group);
    const range = this.host.isPassing(key, pageBytes) ? this.staging.take(pageBytes) : null;
    if (!range) return this.host.read(key);
    if (await this.host.readPast(key, range.bytes)) return range;
    this.staging.giveBack(range);
    return this.host.read(key);
  }

  /** Of staged pages the caller submits the copies when all are recorded. */
  #upload(group: number, { slot }: Placement, page: PageBytes): number {
    const pageBytes = this.pool.getPageBytes(group);
    if (isStaged(page)) {
      const { buffer, offsetBytes } = this.pool.locate(group, slot);
      this.staging.copy(page, buffer, offsetBytes);
    } else {
      this.pool.write(group, slot, page);
    }
    return pageBytes;
  }

  #group(moeLayer: number): number {
    return getPageGroup(this.moe, moeLayer);
  }

  #getKey(moeLayer: number, expert: number): string {
    return getPageKey(this.#group(moeLayer), expert);
  }

  #layer(moeLayer: number): LayerResidency {
    return this.#groups[this.#group(moeLayer)] as LayerResidency;
  }
}

/** What a page to upload is in: an array, or mapped GPU memory. */
type PageBytes = Uint8Array | StagedRange;

function isStaged(page: PageBytes): page is StagedRange {
  return !(page instanceof Uint8Array);
}

function createCounters(moeLayers: number): PagingCounters {
  const byLayer = Array.from({ length: moeLayers }, () => ({ needed: 0, present: 0, faults: 0 }));
  return { needed: 0, present: 0, faultingLayers: 0, demandBytes: 0, aheadBytes: 0, usefulBytes: 0, byLayer };
}
