/**
 * Pages in host RAM, between the store and the GPU: recently used ones up to a byte budget, and reads under way. What is
 * needed is read at once; what is expected waits its turn, and is not read at all once it is no longer expected.
 * Never decides what goes to the GPU, and never changes bytes.
 */
import { EngineError } from '../errors';

/** Expected pages that are being read, or were read and do not fit the budget, at a time: stores gain nothing from more. */
const MAX_AHEAD = 8;
/** A read's time counts half after so many more. */
const HALF_WEIGHT_READS = 16;

/** `needed`: something waits for the page. `expected`: something will, probably. */
export type PageUrgency = 'needed' | 'expected';

/** Reads pages by record key, verified. */
export interface PageReader {
  read(key: string, urgency: PageUrgency): Promise<Uint8Array>;
  /** Makes a page that is being read as expected needed. */
  hasten(key: string): void;
}

export interface HostCacheCounters {
  /** Pages served from RAM. */
  hits: number;
  /** Pages read from the store, and their bytes. */
  reads: number;
  readBytes: number;
}

export class HostCache {
  /** Least recently used first: a Map keeps the order of insertion. */
  readonly #pages = new Map<string, Uint8Array>();
  readonly #reads = new Map<string, Promise<Uint8Array>>();
  #usedBytes = 0;
  /** Expected pages without a read yet, most expected first. */
  #queue: string[] = [];
  #aheadReads = 0;
  #expected: ReadonlySet<string> = new Set();
  /** Expected pages that were read and did not fit the budget; they go when they are taken or no longer expected. */
  readonly #landed = new Map<string, Uint8Array>();
  #readMs: number | null = null;
  readonly counters: HostCacheCounters = { hits: 0, reads: 0, readBytes: 0 };

  /** @param budgetBytes 0 keeps nothing: every read goes to the store. */
  constructor(
    private readonly reader: PageReader,
    readonly budgetBytes: number,
  ) {}

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Time of a read from the store, as measured lately; null before the first. */
  get readMs(): number | null {
    return this.#readMs;
  }

  /** The page if it is in RAM. */
  get(key: string): Uint8Array | undefined {
    const landed = this.#landed.get(key);
    if (landed) {
      this.#landed.delete(key);
      this.counters.hits++;
      this.#startAhead();
      return landed;
    }
    const page = this.#pages.get(key);
    if (page) {
      this.#pages.delete(key);
      this.#pages.set(key, page);
      this.counters.hits++;
    }
    return page;
  }

  /**
   * Reads these pages when there is time, most expected first, for a later `get`. Replaces what was expected before: reads
   * that have not begun are dropped. Never fails: a read that does will fail again, and be reported, when the page is needed.
   */
  expect(keys: readonly string[]): void {
    this.#expected = new Set(keys);
    for (const key of this.#landed.keys()) {
      if (!this.#expected.has(key)) this.#landed.delete(key);
    }
    this.#queue = keys.filter((key) => !this.#pages.has(key) && !this.#landed.has(key) && !this.#reads.has(key));
    this.#startAhead();
  }

  /**
   * The page from RAM or the store. Reads of one page are shared. One that fails is tried once more; after that it is
   * forgotten, so that a later call can try again.
   */
  async read(key: string, urgency: PageUrgency = 'needed'): Promise<Uint8Array> {
    const page = this.get(key);
    if (page) return page;
    let read = this.#reads.get(key);
    if (read && urgency === 'needed') this.reader.hasten(key);
    if (!read) {
      // A transaction that the browser aborted under pressure works the next time; a lost or changed record fails again at
      // once. Either way it costs one read, and a generation is worth more.
      const readAgain = (error: unknown) => {
        // These have been tried again already, or are meant.
        if (error instanceof EngineError && (error.code === 'NETWORK' || error.code === 'ABORTED')) throw error;
        return this.reader.read(key, urgency);
      };
      const startMs = performance.now();
      read = this.reader
        .read(key, urgency)
        .catch(readAgain)
        .then((bytes) => {
          this.#noteReadTime(performance.now() - startMs);
          this.counters.reads++;
          this.counters.readBytes += bytes.byteLength;
          this.#keep(key, bytes);
          return bytes;
        })
        .finally(() => this.#reads.delete(key));
      this.#reads.set(key, read);
    }
    return read;
  }

  #startAhead(): void {
    while (this.#aheadReads + this.#landed.size < MAX_AHEAD) {
      const key = this.#queue.shift();
      if (key === undefined) return;
      if (this.#pages.has(key) || this.#reads.has(key)) continue;
      this.#aheadReads++;
      void this.#readAhead(key);
    }
  }

  async #readAhead(key: string): Promise<void> {
    try {
      const bytes = await this.read(key, 'expected');
      if (!this.#pages.has(key) && this.#expected.has(key)) this.#landed.set(key, bytes);
    } catch {
      // Said when the page is needed.
    } finally {
      this.#aheadReads--;
      this.#startAhead();
    }
  }

  #noteReadTime(ms: number): void {
    const keep = 2 ** (-1 / HALF_WEIGHT_READS);
    this.#readMs = this.#readMs === null ? ms : this.#readMs * keep + ms * (1 - keep);
  }

  #keep(key: string, bytes: Uint8Array): void {
    if (bytes.byteLength > this.budgetBytes) return;
    this.#pages.set(key, bytes);
    this.#usedBytes += bytes.byteLength;
    for (const [oldKey, oldBytes] of this.#pages) {
      if (this.#usedBytes <= this.budgetBytes) break;
      this.#pages.delete(oldKey);
      this.#usedBytes -= oldBytes.byteLength;
    }
  }
}
