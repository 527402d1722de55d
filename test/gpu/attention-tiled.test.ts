import { describe, it } from 'vitest';
import { type AttentionTiled, compileAttentionTiled } from '../../src/kernels/attention-tiled';
import type { KvType } from '../../src/kernels/kv-type';
import { createAttention } from '../plain-config';
import { attention } from '../reference/attention';
import { packKv, unpackKv } from '../reference/kv-cache';
import { createRandom, expectClose, expectSameBits, openBenches, randomFloats, SENTINEL } from './harness';

/** Of the first row: alone, around 16 positions at a time, and far in. */
const POSITIONS = [0, 15, 16, 200];
/** Two tiles of 16 rows, the second not full. */
const ROWS = 21;
const CONTEXT = 224;

const SHAPES = [
  { heads: 3, kvHeads: 3, headDim: 4 },
  { heads: 4, kvHeads: 2, headDim: 20 },
  { heads: 2, kvHeads: 1, headDim: 64 },
];

type Row = Float32Array<ArrayBuffer>;
type Packed = Uint8Array<ArrayBuffer>;

const benches = await openBenches();

describe.each(benches)('attention_tiled, $name', (bench) => {
  describe.each(SHAPES)('$heads heads of $headDim over $kvHeads', (base) => {
    const shape = { ...base, context: CONTEXT, scale: 2 / Math.sqrt(base.headDim) };
    const { heads, kvHeads, headDim } = base;
    const random = createRandom(headDim);
    const width = (heads + 2 * kvHeads) * headDim;
    const own = heads * headDim;
    const qkv = randomFloats(random, ROWS * width, 2);
    const kCache = randomFloats(random, kvHeads * CONTEXT * headDim, 2);
    const vCache = randomFloats(random, kvHeads * CONTEXT * headDim, 2);

    it.each(bench.thin(POSITIONS))('mixes what rows from position %i on may see', async (position) => {
      const kernel = await compile();
      const out = await run(kernel, qkv, ROWS, position);
      const q = new Float32Array(ROWS * own);
      for (let row = 0; row < ROWS; row++) q.set(qkv.subarray(row * width, row * width + own), row * own);
      expectClose(out, attention(shape, q, kCache, vCache, position), 1e-5, 'out');
      for (const row of [0, 3, 5, 17, 20]) {
        const alone = await run(kernel, qkv.slice(row * width, (row + 1) * width), 1, position + row);
        expectSameBits(out.slice(row * own, (row + 1) * own), alone, `row ${row}`);
      }
    });

    it.each(bench.thin(['f16', 'q8'] as const))('reads keys and values of %s', async (kvType) => {
      const kernel = await compile({ kvType });
      const [k, v] = [kCache, vCache].map((cache) => packKv(kvType, cache, headDim)) as [Packed, Packed];
      const q = new Float32Array(ROWS * own);
      for (let row = 0; row < ROWS; row++) q.set(qkv.subarray(row * width, row * width + own), row * own);
      const [keys, values] = [k, v].map((cache) => unpackKv(kvType, cache, kvHeads * CONTEXT, headDim)) as [Row, Row];
      const out = await run(kernel, qkv, ROWS, 16, { k, v });
      expectClose(out, attention(shape, q, keys, values, 16), 1e-5, 'out');
      const alone = await run(kernel, qkv.slice(17 * width, 18 * width), 1, 33, { k, v });
      expectSameBits(out.slice(17 * own, 18 * own), alone, 'row 17');
    });

    it('does not read behind the last row', async () => {
      const kernel = await compile();
      const before = await run(kernel, qkv, 6, 5);
      const [k, v] = [kCache, vCache].map((cache) => {
        const poisoned = cache.slice();
        for (let head = 0; head < kvHeads; head++) {
          poisoned.fill(Number.NaN, (head * CONTEXT + 11) * headDim, (head + 1) * CONTEXT * headDim);
        }
        return poisoned;
      });
      expectSameBits(await run(kernel, qkv, 6, 5, { k: k as Row, v: v as Row }), before);
    });

    it.each([150, 40])('sees the last %i positions in a ring, with sinks', async (window) => {
      const sinks = randomFloats(random, heads, 4);
      const context = window + ROWS;
      const kernel = await compile({ window, context });
      const q = new Float32Array(ROWS * own);
      for (let row = 0; row < ROWS; row++) q.set(qkv.subarray(row * width, row * width + own), row * own);
      for (const position of [0, window - 2, 2 * window + 7]) {
        const out = await run(kernel, qkv, ROWS, position, { sinks });
        const expected = attention({ ...shape, window, sinks, context }, q, kCache, vCache, position);
        expectClose(out, expected, 1e-5, `from position ${position}`);
        const alone = await run(kernel, qkv.slice(17 * width, 18 * width), 1, position + 17, { sinks });
        expectSameBits(out.slice(17 * own, 18 * own), alone, `row 17 from position ${position}`);
      }
    });

    function compile(own: { window?: number; context?: number; kvType?: KvType } = {}): Promise<AttentionTiled> {
      const { window, context = CONTEXT, kvType = 'f32' } = own;
      const slides = window !== undefined;
      const attentionConfig = createAttention({
        ...base,
        scale: shape.scale,
        ...(slides && { window, hasSinks: true }),
      });
      const spec = { attention: attentionConfig, slides, cacheLength: context, kvType };
      return bench.compileOnce(spec, () => compileAttentionTiled(bench.device, bench.variant, spec));
    }

    async function run(
      kernel: AttentionTiled,
      rowsOfQkv: Float32Array,
      rows: number,
      position: number,
      {
        k = kCache,
        v = vCache,
        sinks = new Float32Array(4),
      }: { k?: Row | Packed; v?: Row | Packed; sinks?: Float32Array } = {},
    ): Promise<Float32Array> {
      const blank = new Float32Array(rows * own).fill(SENTINEL);
      const b = await bench.place({ qkv: rowsOfQkv, kCache: k, vCache: v, out: blank, sinks });
      const command = kernel.bind({ ...b, step: bench.uniform(rows, position) });
      const [bytes] = await bench.run([[command, rows]], [b.out]);
      return new Float32Array(bytes!, 0, blank.length);
    }
  });
});
