/**
 * Pages in host RAM, between the store and the GPU: recently used ones up to a byte budget, and reads under way.
 * Never decides what goes to the GPU, and never changes bytes.
 */
import { EngineError } from '../errors';

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
  readonly counters: HostCacheCounters = { hits: 0, reads: 0, readBytes: 0 };

  /** @param budgetBytes 0 keeps nothing: every read goes to the store. */
  constructor(
    private readonly reader: PageReader,
    readonly budgetBytes: number,
  ) {}

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** The page if it is in RAM. */
  get(key: string): Uint8Array | undefined {
    const page = this.#pages.get(key);
    if (page) {
      this.#pages.delete(key);
      this.#pages.set(key, page);
      this.counters.hits++;
    }
    return page;
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
      read = this.reader
        .read(key, urgency)
        .catch(readAgain)
        .then((bytes) => {
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
