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

export class KeptPrefix {
  /** What positions 0, 1, … hold, computed in tiles. */
  #tokenIds: number[] = [];
  /** First position that nothing has been written to since position 0 was. */
  #end = 0;
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

  /**
   * Positions that a prompt need not compute: whole tiles, and not its last token. What is left runs in the form of its own
   * chunk, so all that is kept lies in front of a chunk, or inside of one that runs in tiles.
   */
  match(promptTokenIds: readonly number[]): number {
    const most = Math.min(this.#tokenIds.length, promptTokenIds.length - 1);
    let same = 0;
    while (same < most && this.#tokenIds[same] === promptTokenIds[same]) same++;
    const { rows } = this.state;
    const chunk = Math.floor(same / rows) * rows;
    const isTiled = Math.min(rows, promptTokenIds.length - chunk) >= TILED_ROWS;
    const kept = isTiled ? same - ((same - chunk) % TILE_TOKENS) : chunk;
    return this.#end - kept <= this.#slack ? kept : 0;
  }

  /** A pass writes positions from `position` on: until it has ended they hold nothing that is known. */
  begin(position: number, rows: number): void {
    if (position === 0) this.#end = 0;
    this.#end = Math.max(this.#end, position + rows);
    this.#tokenIds.length = Math.min(this.#tokenIds.length, position);
  }

  /** A chunk has been computed in tiles. */
  extend(position: number, tokenIds: readonly number[]): void {
    if (this.#tokenIds.length === position) this.#tokenIds.push(...tokenIds);
  }
}
