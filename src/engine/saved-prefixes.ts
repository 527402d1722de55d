/**
 * Beginnings of conversations that the KV cache has no room for, in host RAM: tokens, and the bytes of their positions. Owns
 * which of them stay; never touches a GPU.
 */
import { EngineError } from '../errors';
import type { Prefix } from './kept-prefix';

/** Positions `from` to `to - 1` of the layers that hold the whole context. */
export interface SavedRows {
  readonly from: number;
  readonly to: number;
  readonly bytes: Uint8Array;
}

/** Never changed; several prefixes share the rows that they begin with. */
export interface SavedPrefix extends Prefix {
  /** One behind the other, without a gap; of the last one maybe not all is meant. */
  readonly rows: readonly SavedRows[];
  /** Of the layers whose cache is a ring: all that it held. */
  readonly rings: Uint8Array;
}

export interface SavedPrefixLimits {
  /** Default 256 MiB. 0: nothing is saved. */
  readonly prefixCacheBytes?: number | undefined;
  /** Default 16. */
  readonly prefixCacheCount?: number | undefined;
}

const DEFAULT_BYTES = 256 << 20;
const DEFAULT_COUNT = 16;

export class SavedPrefixes {
  readonly #bytes: number;
  readonly #count: number;
  /** The least recently used first. */
  #prefixes: SavedPrefix[] = [];
  /** Bytes copied from and to the GPU since the model was loaded. */
  readonly counters = { savedBytes: 0, restoredBytes: 0 };

  /** @throws EngineError `BAD_ARGUMENT` */
  constructor({ prefixCacheBytes = DEFAULT_BYTES, prefixCacheCount = DEFAULT_COUNT }: SavedPrefixLimits = {}) {
    this.#bytes = checkLimit('prefixCacheBytes', prefixCacheBytes);
    this.#count = checkLimit('prefixCacheCount', prefixCacheCount);
  }

  get count(): number {
    return this.#prefixes.length;
  }

  /** Shared rows once. */
  get usedBytes(): number {
    const rows = new Set(this.#prefixes.flatMap((prefix) => prefix.rows));
    const rings = this.#prefixes.reduce((sum, prefix) => sum + prefix.rings.byteLength, 0);
    return [...rows].reduce((sum, { bytes }) => sum + bytes.byteLength, rings);
  }

  list(): readonly SavedPrefix[] {
    return this.#prefixes;
  }

  has(prefix: SavedPrefix): boolean {
    return this.#prefixes.includes(prefix);
  }

  /** Whether something of so many bytes could be kept at all. */
  hasRoomFor(bytes: number): boolean {
    return this.#count > 0 && bytes <= this.#bytes;
  }

  /** It is the last that makes room. */
  use(prefix: SavedPrefix): void {
    this.#prefixes = [...this.#prefixes.filter((other) => other !== prefix), prefix];
  }

  /**
   * The least recently used make room.
   * @param covers whether this one serves every prompt that the other one does; then the other one goes.
   */
  add(prefix: SavedPrefix, covers: (other: SavedPrefix) => boolean): void {
    this.#prefixes = [...this.#prefixes.filter((other) => !covers(other)), prefix];
    while (this.#prefixes.length > this.#count || this.usedBytes > this.#bytes) this.#prefixes.shift();
  }

  clear(): void {
    this.#prefixes = [];
  }
}

function checkLimit(name: keyof SavedPrefixLimits, value: number): number {
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new EngineError('BAD_ARGUMENT', `${name} ${value} is out of range: give a whole number from 0 on`);
}
