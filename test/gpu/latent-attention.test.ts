/** Both attention kernels where keys are values too but for their end: one cache that all heads read. */
import { describe, it } from 'vitest';
import { compileAttention } from '../../src/kernels/attention';
import { compileAttentionTiled } from '../../src/kernels/attention-tiled';
import { createAttention } from '../plain-config';
import { attention } from '../reference/attention';
import { packKv, unpackKv } from '../reference/kv-cache';
import { createControl, createRandom, expectClose, openBenches, randomFloats, SENTINEL } from './harness';
import { LAYER } from './modes';

const ROWS = 5;
const CONTEXT = 150;

const benches = await openBenches();

describe.each(benches)('attention over latents, $name', (bench) => {
  it.each([
    [3, 32, 8, 0, 'f32'],
    [2, 64, 20, 131, 'f32'],
    [3, 32, 8, 131, 'f16'],
    [2, 64, 20, 131, 'q8'],
  ] as const)(
    '%i heads, rank %i, turning %i, from position %i on, %s',
    async (heads, rank, ropeDims, position, kvType) => {
      const headDim = rank + ropeDims;
      const shape = { heads, kvHeads: 1, headDim, context: CONTEXT, scale: 0.3 };
      const latent = { rank, plainDim: 8, valueDim: 8, queryRank: null, epsilon: 1e-6 };
      const spec = { attention: createAttention({ ...shape, latent }), slides: false, cacheLength: CONTEXT, kvType };
      const random = createRandom(rank);
      const queries = randomFloats(random, ROWS * heads * headDim, 2);
      const packed = packKv(kvType, randomFloats(random, CONTEXT * headDim, 2), headDim);
      const cache = unpackKv(kvType, packed, CONTEXT, headDim);
      const blank = new Float32Array(ROWS * heads * rank).fill(SENTINEL);
      const b = await bench.place({
        qkv: queries,
        kCache: packed,
        out: blank,
        tiledOut: blank,
        sinks: new Float32Array(4),
        control: createControl({}),
      });
      const buffers = { ...b, vCache: b.kCache, step: bench.uniform(ROWS, position) };
      const [rows, tiles] = await Promise.all([
        bench.compileOnce(['latent rows', spec], () => compileAttention(bench.device, bench.variant, spec)),
        bench.compileOnce(['latent tiles', spec], () => compileAttentionTiled(bench.device, bench.variant, spec)),
      ]);
      const found = await bench.run(
        [
          [rows.bind({ ...buffers, moeLayer: bench.uniform(LAYER) }), ROWS],
          [tiles.bind({ ...buffers, out: b.tiledOut }), ROWS],
        ],
        [b.out, b.tiledOut],
      );
      const whole = attention(shape, queries, cache, cache, position);
      const expected = Float64Array.from({ length: blank.length }, (_, i) => {
        return whole[Math.floor(i / rank) * headDim + (i % rank)]!;
      });
      for (const [i, form] of ['rows', 'tiles'].entries()) {
        expectClose(new Float32Array(found[i]!, 0, blank.length), expected, 1e-5, form);
      }
    },
  );
});
