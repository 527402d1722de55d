/**
 * Pages in host RAM, between the store and the GPU: recently used ones up to a byte budget, and reads under way. What is
 * needed is read at once; what is expected waits its turn, and is not read at all once it is no longer expected.
 * Never decides what goes to the GPU, and never changes bytes.
 */
import { EngineError } from '../errors';

const DEFAULT_BUDGET_BYTES = 256 << 20;
/** Expected pages that are being read, or were read and do not fit the budget, at a time: stores gain nothing from more. */
const MAX_AHEAD = 8;
/** A read's time counts half after so many more. */
const HALF_WEIGHT_READS = 16;

/** A full tier remembers so many of the pages that went past it, as a share of those that it has. */
const PASSED_SHARE = 0.5;

/** `needed`: something waits for the page. `expected`: something will, probably. */
export type PageUrgency = 'needed' | 'expected';

/** Reads pages by record key, verified. */
export interface PageReader {
  read(key: string, urgency: PageUrgency): Promise<Uint8Array>;
  /** Reads a page of the store into memory that is given; false where `read` has to. Never rejects. */
  readInto(key: string, target: Uint8Array<ArrayBuffer>): Promise<boolean>;
  /** Makes a page that is being read as expected needed. */
  hasten(key: string): void;
  /** Whether it is in the local store; otherwise it is read from where the model comes from. */
  has(key: string): boolean;
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
  /** Pages that came when there was no room, oldest first: what comes again while it is among them is kept. */
  readonly #passed = new Set<string>();
  readonly #storeTime = new ReadTime();
  readonly #sourceTime = new ReadTime();
  readonly counters: HostCacheCounters = { hits: 0, reads: 0, readBytes: 0 };
  /** Pages that were read past RAM, into memory that was given. */
  readonly past = { pages: 0, bytes: 0 };

  /** @param budgetBytes 0 keeps nothing: every read goes to the store. */
  constructor(
    private readonly reader: PageReader,
    readonly budgetBytes = DEFAULT_BUDGET_BYTES,
  ) {}

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** What this page takes to read while others are read, from its tier as measured lately; 0 before that tier's first read. */
  getReadMs(key: string): number {
    return this.#getReadTime(key).ms;
  }

  /** Whether `get` gives the page. */
  has(key: string): boolean {
    return this.#landed.has(key) || this.#pages.has(key);
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
   * @param urgent so many of the first are read at once.
   * @returns when none of those is being read any more.
   */
  async expect(keys: readonly string[], urgent = 0): Promise<void> {
    this.#expected = new Set(keys);
    for (const key of this.#landed.keys()) {
      if (!this.#expected.has(key)) this.#landed.delete(key);
    }
    const isAbsent = (key: string): boolean => !this.has(key);
    const reading = keys.slice(0, urgent).filter(isAbsent);
    this.#queue = keys.slice(urgent).filter((key) => isAbsent(key) && !this.#reads.has(key));
    const read = Promise.all(reading.map((key) => this.#readAhead(key)));
    this.#startAhead();
    await read;
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
      // What comes from the source is in the store afterwards.
      const readTime = this.#getReadTime(key);
      read = this.reader
        .read(key, urgency)
        .catch(readAgain)
        .then((bytes) => {
          readTime.note(startMs, performance.now());
          this.counters.reads++;
          this.counters.readBytes += bytes.byteLength;
          if (urgency === 'expected' || this.#isWorthRoom(key, bytes.byteLength)) this.#keep(key, bytes);
          else this.#notePassed(key, bytes.byteLength);
          return bytes;
        })
        .finally(() => this.#reads.delete(key));
      this.#reads.set(key, read);
    }
    return read;
  }

  /**
   * Whether a page that is needed now comes from the store and RAM would not keep it: then it need not come through RAM.
   * A full tier keeps a needed page at its second coming only: where more pages take turns than there is room for, keeping
   * each throws out all of them before they come again (docs/log.md, "a full RAM tier").
   */
  isPassing(key: string, sizeBytes: number): boolean {
    if (this.has(key) || this.#reads.has(key) || !this.reader.has(key)) return false;
    return !this.#isWorthRoom(key, sizeBytes);
  }

  /** Reads a page past RAM, from the store into memory that is given. False where `read` has to. Never rejects. */
  async readPast(key: string, target: Uint8Array<ArrayBuffer>): Promise<boolean> {
    const sizeBytes = target.byteLength;
    const startMs = performance.now();
    if (!(await this.reader.readInto(key, target))) return false;
    this.#storeTime.note(startMs, performance.now());
    this.past.pages++;
    this.past.bytes += sizeBytes;
    this.#notePassed(key, sizeBytes);
    return true;
  }

  #startAhead(): void {
    while (this.#aheadReads + this.#landed.size < MAX_AHEAD) {
      const key = this.#queue.shift();
      if (key === undefined) return;
      if (this.#pages.has(key) || this.#reads.has(key)) continue;
      void this.#readAhead(key);
    }
  }

  async #readAhead(key: string): Promise<void> {
    this.#aheadReads++;
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

  #getReadTime(key: string): ReadTime {
    return this.reader.has(key) ? this.#storeTime : this.#sourceTime;
  }

  #isWorthRoom(key: string, sizeBytes: number): boolean {
    if (sizeBytes > this.budgetBytes) return false;
    return this.#usedBytes + sizeBytes <= this.budgetBytes || this.#passed.has(key);
  }

  #notePassed(key: string, sizeBytes: number): void {
    if (sizeBytes > this.budgetBytes) return;
    this.#passed.add(key);
    const most = Math.ceil(this.#pages.size * PASSED_SHARE);
    for (const oldest of this.#passed) {
      if (this.#passed.size <= most) break;
      this.#passed.delete(oldest);
    }
  }

  #keep(key: string, bytes: Uint8Array): void {
    if (bytes.byteLength > this.budgetBytes) return;
    this.#passed.delete(key);
    this.#pages.set(key, bytes);
    this.#usedBytes += bytes.byteLength;
    for (const [oldKey, oldBytes] of this.#pages) {
      if (this.#usedBytes <= this.budgetBytes) break;
      this.#pages.delete(oldKey);
      this.#usedBytes -= oldBytes.byteLength;
    }
  }
}

/** The time of one tier's reads, of which those that overlap share it. */
class ReadTime {
  #ms: number | null = null;
  #lastEndMs = 0;

  /** 0 before the first. */
  get ms(): number {
    return this.#ms ?? 0;
  }

  note(startMs: number, endMs: number): void {
    // A read that ended while this one ran has had its part.
    const ms = endMs - Math.max(startMs, this.#lastEndMs);
    this.#lastEndMs = endMs;
    const keep = 2 ** (-1 / HALF_WEIGHT_READS);
    this.#ms = this.#ms === null ? ms : this.#ms * keep + ms * (1 - keep);
  }
}
