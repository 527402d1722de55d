import { beforeAll, describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../../src/checkpoint/model-config';
import { KeptPrefix } from '../../../src/engine/kept-prefix';
import { getStateShape } from '../../../src/model/run-state';
import { buildGoldenManifest } from '../test-manifest';

const CONTEXT = 1000;
const ROWS = 100;
let config: ModelConfig;
beforeAll(async () => {
  ({ config } = await buildGoldenManifest('e16k4-q4_0'));
});

function createPrefix(own: Partial<ModelConfig> = {}): KeptPrefix {
  const changed = { ...config, ...own };
  return new KeptPrefix(changed, { ...getStateShape(changed, CONTEXT, 'f32'), rows: ROWS });
}

const createIds = (count: number, from = 0): number[] => Array.from({ length: count }, (_, i) => from + i);

/** Writes positions, in tiles or otherwise. */
function write(prefix: KeptPrefix, position: number, ids: readonly number[], inTiles: boolean): void {
  prefix.begin(position, ids.length);
  if (inTiles) prefix.extend(position, ids);
}

describe('a kept prefix', () => {
  it('is whole tiles of a chunk, never the last token, and nothing of a chunk that runs row by row', () => {
    const prefix = createPrefix();
    write(prefix, 0, createIds(100), true);
    write(prefix, 100, createIds(60, 100), true);
    expect(prefix.match(createIds(300))).toBe(100 + 48);
    expect(prefix.match(createIds(149))).toBe(100 + 48);
    // The last token at 148: with it at the end of a tile, that tile is computed again.
    expect(prefix.match(createIds(148))).toBe(100 + 32);
    expect(prefix.match([...createIds(77), 5, 6, 7, ...createIds(50)])).toBe(64);
    // Ten tokens behind the first chunk are no tile.
    expect(prefix.match(createIds(110))).toBe(100);
    expect(prefix.match(createIds(10))).toBe(0);
    expect(prefix.match([9, ...createIds(200)])).toBe(0);
  });

  it('ends where something else was written, be it that the pass failed', () => {
    const prefix = createPrefix();
    write(prefix, 0, createIds(100), true);
    write(prefix, 100, [1], false);
    expect(prefix.match(createIds(200))).toBe(100);
    write(prefix, 40, [7], false);
    expect(prefix.match(createIds(200))).toBe(32);
    // Nothing joins on behind a gap.
    write(prefix, 100, createIds(50, 100), true);
    expect(prefix.match(createIds(200))).toBe(32);
  });

  it('of a layer that slides is lost when its ring has come round to it', () => {
    const sliding: Partial<ModelConfig> = {
      attention: { ...config.attention, window: 64 },
      mixers: config.mixers.map((mixer, layer) => (layer === 0 ? 'sliding' : mixer)),
    };
    const writeAnswer = (prefix: KeptPrefix, tokens: number): number => {
      write(prefix, 0, createIds(96), true);
      for (let at = 96; at < 96 + tokens; at++) write(prefix, at, [1], false);
      return prefix.match(createIds(300));
    };
    expect(writeAnswer(createPrefix(sliding), ROWS)).toBe(96);
    expect(writeAnswer(createPrefix(sliding), ROWS + 1)).toBe(0);
    expect(writeAnswer(createPrefix(), 800)).toBe(96);
    // A convolution's state is in a ring too.
    const convolving: Partial<ModelConfig> = {
      convolution: { taps: 3, hasBias: false },
      mixers: config.mixers.map((mixer, layer) => (layer === 0 ? 'convolution' : mixer)),
    };
    expect(writeAnswer(createPrefix(convolving), ROWS)).toBe(96);
    expect(writeAnswer(createPrefix(convolving), ROWS + 1)).toBe(0);
    const prefix = createPrefix(sliding);
    writeAnswer(prefix, ROWS + 1);
    // Begun anew, the ring holds what is written now.
    expect(writeAnswer(prefix, 20)).toBe(96);
  });
});
