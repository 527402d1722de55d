/**
 * The slots of every layer during a replay. Owns what is present and CONTRACT's rules of eviction: the current set is
 * never evicted; ties evict the longest resident, then the lowest id. Which rank a page has is the policy's business.
 */
import type { TokenRoutes } from '../token-routes';
import type { ReplayPolicy } from './policies';

/** What the caches count by themselves. */
export interface UploadCounters {
  presentAfter: number;
  demandUploads: number;
  usefulUploads: number;
  wastedUploads: number;
}

export class LayerCaches {
  /** [layers, experts] by page. 0: absent; else the batch of insertions that brought it, plus 1. */
  readonly #insertedAt: Float64Array;
  /** [layers, experts] 1: prefetched and not used yet. */
  readonly #waiting: Uint8Array;
  /** [layers, experts]: token, plus 1, that some prediction expected to use the page. */
  readonly #expectedBy: Float64Array;
  /** [layers, experts]: event, plus 1, whose set the page belongs to. */
  readonly #currentOf: Float64Array;
  /** [layers][up to slots]: pages present, in no order. */
  readonly #residents: number[][];
  /** Pages of the event, ascending. */
  readonly #set: number[] = [];
  #batch = 1;

  constructor(
    private readonly layers: number,
    private readonly experts: number,
    private readonly slots: number,
    private readonly policy: ReplayPolicy,
    private readonly counters: UploadCounters,
  ) {
    const pages = layers * experts;
    this.#insertedAt = new Float64Array(pages);
    this.#waiting = new Uint8Array(pages);
    this.#expectedBy = new Float64Array(pages);
    this.#currentOf = new Float64Array(pages);
    this.#residents = Array.from({ length: layers }, () => []);
  }

  countPresent(routes: TokenRoutes, layer: number): number {
    let present = 0;
    for (let at = routes.getStart(layer); at < routes.getStart(layer + 1); at++) {
      if (this.#insertedAt[layer * this.experts + (routes.ids[at] as number)] !== 0) present++;
    }
    return present;
  }

  /**
   * The layer runs for the token: misses are counted, then inserted in ascending id.
   * @returns the number of misses.
   */
  runEvent(routes: TokenRoutes, token: number, layer: number): number {
    const set = this.#set;
    const event = token * this.layers + layer + 1;
    set.length = 0;
    const end = routes.getStart(layer + 1);
    for (let at = routes.getStart(layer); at < end; at++) {
      const page = layer * this.experts + (routes.ids[at] as number);
      let place = set.length;
      for (; place > 0 && (set[place - 1] as number) > page; place--) set[place] = set[place - 1] as number;
      set[place] = page;
    }
    let misses = 0;
    for (const page of set) {
      this.#currentOf[page] = event;
      if (this.#insertedAt[page] === 0) {
        misses++;
        continue;
      }
      this.counters.presentAfter++;
      if (this.#waiting[page] === 1) this.counters.usefulUploads++;
      this.#waiting[page] = 0;
    }
    if (misses > 0) {
      this.counters.demandUploads += misses;
      for (const page of set) {
        if (this.#insertedAt[page] !== 0) continue;
        if (this.#getResidents(layer).length === this.slots) this.#evict(layer, this.#currentOf, event);
        this.#insert(page, layer);
      }
      this.#batch++;
    }
    for (const page of set) this.policy.use(page, token);
    return misses;
  }

  /** Brings in the experts that a prediction for the token names, best first, as far as nothing expected has to go. */
  prefetch(token: number, layer: number, ids: ArrayLike<number>, count: number): void {
    const start = layer * this.experts;
    const missing: number[] = [];
    for (let at = 0; at < count; at++) {
      const page = start + (ids[at] as number);
      this.#expectedBy[page] = token + 1;
      if (this.#insertedAt[page] === 0) missing.push(page);
    }
    if (missing.length === 0) return;
    const prefetched: number[] = [];
    for (const page of missing) {
      if (this.#getResidents(layer).length === this.slots && !this.#evict(layer, this.#expectedBy, token + 1)) break;
      this.#insert(page, layer);
      this.#waiting[page] = 1;
      prefetched.push(page);
    }
    if (prefetched.length === 0) return;
    this.policy.prefetch(prefetched, token, this.#getResidents(layer));
    this.#batch++;
  }

  /** No token is left: what still waits was fetched in vain. */
  finish(): void {
    for (const waiting of this.#waiting) this.counters.wastedUploads += waiting;
  }

  #insert(page: number, layer: number): void {
    this.#insertedAt[page] = this.#batch;
    this.#getResidents(layer).push(page);
  }

  /** Evicts the page of lowest rank that is not `keep` in `marks`. False when there is none. */
  #evict(layer: number, marks: Float64Array, keep: number): boolean {
    const insertedAt = this.#insertedAt;
    const residents = this.#getResidents(layer);
    const ranks = this.policy.getRanks(layer);
    let [place, victim, rank, since] = [-1, -1, 0, 0];
    for (let at = 0; at < residents.length; at++) {
      const page = residents[at] as number;
      if (marks[page] === keep) continue;
      const own = ranks[page] as number;
      if (victim >= 0) {
        if (own > rank) continue;
        const inserted = insertedAt[page] as number;
        if (own === rank && (inserted > since || (inserted === since && page > victim))) continue;
      }
      place = at;
      victim = page;
      rank = own;
      since = insertedAt[page] as number;
    }
    if (victim < 0) return false;
    residents[place] = residents.at(-1) as number;
    residents.pop();
    insertedAt[victim] = 0;
    this.counters.wastedUploads += this.#waiting[victim] as number;
    this.#waiting[victim] = 0;
    return true;
  }

  #getResidents(layer: number): number[] {
    return this.#residents[layer] as number[];
  }
}
