/**
 * Which positions of the KV cache hold what a prompt would write there again, bit for bit. Owns the token ids they were computed
 * from; never touches the cache.
 *
 * In tiles a position's keys and values depend on the tokens up to it and on nothing else: not on how the prompt was cut, nor
 * on what was resident (docs/numerics.md). Decoded positions differ in their last bits, so they are not kept: an answer is
 * computed once more, in tiles, when it comes back as part of the next prompt.
 */
import type { ModelConfig } from '../checkpoint/model-config';
import { TILE_TOKENS } from '../kernels/route-order';
import { getCacheLength, type StateShape, TILED_ROWS } from '../model/run-state';

/** What a KV cache holds, or a copy of it. */
export interface Prefix {
  /** What positions 0, 1, … hold, computed in tiles. */
  readonly tokenIds: readonly number[];
  /** First position that nothing has been written to since position 0 was. */
  readonly end: number;
}

export class KeptPrefix implements Prefix {
  #tokenIds: number[] = [];
  #end = 0;
  /** Positions that are as they were when `tokenIds` was last copied, or came from a copy. */
  #copied = 0;
  /** Positions behind a kept one that may be written without taking from what it sees: a sliding layer's cache is a ring, and a convolution's. */
  readonly #slack: number;

  constructor(
    config: ModelConfig,
    private readonly state: StateShape,
  ) {
    const slacks = config.mixers.map((mixer, layer) => {
      const length = getCacheLength(config, state, layer);
      const seen = mixer === 'convolution' ? (config.convolution?.taps ?? 1) - 1 : config.attention.window;
      return length >= state.contextLength || seen === null ? Number.POSITIVE_INFINITY : length - seen;
    });
    this.#slack = Math.min(...slacks);
  }

  get tokenIds(): readonly number[] {
    return this.#tokenIds;
  }

  get end(): number {
    return this.#end;
  }

  get copied(): number {
    return this.#copied;
  }

  /**
   * Positions that a prompt need not compute: whole tiles, and not its last token. What is left runs in the form of its own
   * chunk, so all that is kept lies in front of a chunk, or inside of one that runs in tiles.
   * @param prefix what is compared with the prompt: the cache, or a copy of it
   */
  match(promptTokenIds: readonly number[], prefix: Prefix = this): number {
    const most = promptTokenIds.length - 1;
    const same = countSame(prefix.tokenIds, promptTokenIds, most);
    const { rows } = this.state;
    const chunk = Math.floor(same / rows) * rows;
    const isTiled = Math.min(rows, promptTokenIds.length - chunk) >= TILED_ROWS;
    return this.#reach(prefix, isTiled ? toTile(same, chunk) : chunk);
  }

  /** Positions that the longest prompt could take over. */
  getReach(prefix: Prefix = this): number {
    const { length } = prefix.tokenIds;
    return this.#reach(prefix, toTile(length, Math.floor(length / this.state.rows) * this.state.rows));
  }

  /** A pass writes positions from `position` on: until it has ended they hold nothing that is known. */
  begin(position: number, rows: number): void {
    if (position === 0) this.#end = 0;
    this.#end = Math.max(this.#end, position + rows);
    this.#tokenIds.length = Math.min(this.#tokenIds.length, position);
    this.#copied = Math.min(this.#copied, position);
  }

  /** A chunk has been computed in tiles. */
  extend(position: number, tokenIds: readonly number[]): void {
    if (this.#tokenIds.length === position) this.#tokenIds.push(...tokenIds);
  }

  /** There is a copy of so many positions now. */
  noteCopied(positions: number): void {
    this.#copied = positions;
  }

  /** The cache has been filled from a copy. */
  replace({ tokenIds, end }: Prefix): void {
    this.#tokenIds = [...tokenIds];
    this.#end = end;
    this.#copied = tokenIds.length;
  }

  /** What a pass from `position` on would see of it, if its rings still have that. */
  #reach({ end }: Prefix, position: number): number {
    return end - position <= this.#slack ? position : 0;
  }
}

/** How many ids two texts begin with alike, at most `most`. */
export function countSame(a: readonly number[], b: readonly number[], most = Number.POSITIVE_INFINITY): number {
  const length = Math.min(a.length, b.length, most);
  let same = 0;
  while (same < length && a[same] === b[same]) same++;
  return same;
}

/** The last end of a tile at or before `position`; tiles begin with the chunk. */
function toTile(position: number, chunk: number): number {
  return position - ((position - chunk) % TILE_TOKENS);
}
