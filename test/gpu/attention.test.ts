import { describe, it } from 'vitest';
import { type Attention, type AttentionSpec, compileAttention } from '../../src/kernels/attention';
import type { KvType } from '../../src/kernels/kv-type';
import { createAttention } from '../plain-config';
import { attention } from '../reference/attention';
import { packKv, unpackKv } from '../reference/kv-cache';
import {
  type Bench,
  createControl,
  createRandom,
  expectClose,
  expectSameBits,
  expectUntouched,
  openBenches,
  type PassState,
  randomFloats,
  SENTINEL,
} from './harness';
import { describeCase, LAYER, MODES } from './modes';

/** Of the first of four rows: around the chunk of 128 positions, and in the third chunk. */
const POSITIONS = [0, 1, 127, 128, 129, 300];
const ROWS = 4;
const CONTEXT = 304;

const SHAPES = [
  { heads: 3, kvHeads: 3, headDim: 4 },
  { heads: 4, kvHeads: 2, headDim: 20 },
  { heads: 6, kvHeads: 2, headDim: 32 },
  { heads: 2, kvHeads: 1, headDim: 64 },
];

type Row = Float32Array<ArrayBuffer>;
type Packed = Uint8Array<ArrayBuffer>;

const benches = await openBenches();

describe.each(benches)('attention, $name', (bench) => {
  describe.each(SHAPES)('$heads heads of $headDim over $kvHeads', (base) => {
    const shape = { ...base, context: CONTEXT, scale: 2 / Math.sqrt(base.headDim) };
    const { heads, kvHeads, headDim } = base;
    const random = createRandom(headDim);
    const width = (heads + 2 * kvHeads) * headDim;
    const qkv = randomFloats(random, ROWS * width, 2);
    const kCache = randomFloats(random, kvHeads * CONTEXT * headDim, 2);
    const vCache = randomFloats(random, kvHeads * CONTEXT * headDim, 2);

    it.each(bench.thin(POSITIONS))('mixes what rows from position %i on may see', async (position) => {
      const kernel = await compile(bench, shape);
      const out = await run(bench, kernel, qkv, ROWS, position);
      const q = new Float32Array(ROWS * heads * headDim);
      for (let row = 0; row < ROWS; row++) {
        q.set(qkv.subarray(row * width, row * width + heads * headDim), row * heads * headDim);
      }
      expectClose(out, attention(shape, q, kCache, vCache, position), 1e-5, 'out');
      const own = heads * headDim;
      for (let row = 0; row < ROWS; row++) {
        const alone = await run(bench, kernel, qkv.slice(row * width, (row + 1) * width), 1, position + row);
        expectSameBits(out.slice(row * own, (row + 1) * own), alone, `row ${row}`);
      }
    });

    it.each(bench.thin(['f16', 'q8'] as const))('reads keys and values of %s', async (kvType) => {
      const kernel = await compile(bench, shape, kvType);
      const [k, v] = [kCache, vCache].map((cache) => packKv(kvType, cache, headDim)) as [Packed, Packed];
      const q = new Float32Array(ROWS * heads * headDim);
      for (let row = 0; row < ROWS; row++) {
        q.set(qkv.subarray(row * width, row * width + heads * headDim), row * heads * headDim);
      }
      const [keys, values] = [k, v].map((cache) => unpackKv(kvType, cache, kvHeads * CONTEXT, headDim)) as [Row, Row];
      for (const position of [0, 129]) {
        const out = await run(bench, kernel, qkv, ROWS, position, { k, v });
        expectClose(out, attention(shape, q, keys, values, position), 1e-5, `from position ${position}`);
        const alone = await run(bench, kernel, qkv.slice(2 * width, 3 * width), 1, position + 2, { k, v });
        const own = heads * headDim;
        expectSameBits(out.slice(2 * own, 3 * own), alone, `row 2 from position ${position}`);
      }
    });

    it("does not read behind a row's own position", async () => {
      const kernel = await compile(bench, shape);
      const before = await run(bench, kernel, qkv, 1, 5);
      const poisoned = kCache.slice();
      for (let head = 0; head < kvHeads; head++) {
        poisoned.fill(Number.NaN, (head * CONTEXT + 6) * headDim, (head + 1) * CONTEXT * headDim);
      }
      expectSameBits(await run(bench, kernel, qkv, 1, 5, { k: poisoned }), before);
    });

    it.each([150, 40])('sees the last %i positions in a ring, with sinks', async (window) => {
      const sinks = randomFloats(random, heads, 4);
      const sliding = { ...shape, window, sinks, context: window + ROWS };
      const kernel = await compile(bench, {
        ...base,
        scale: shape.scale,
        window,
        hasSinks: true,
        context: window + ROWS,
      });
      const q = new Float32Array(ROWS * heads * headDim);
      for (let row = 0; row < ROWS; row++) {
        q.set(qkv.subarray(row * width, row * width + heads * headDim), row * heads * headDim);
      }
      for (const position of [0, window - 2, 2 * window + 7]) {
        const out = await run(bench, kernel, qkv, ROWS, position, { sinks });
        expectClose(out, attention(sliding, q, kCache, vCache, position), 1e-5, `from position ${position}`);
      }
    });

    // The modes know no shape: one shows them.
    if (base === SHAPES[0]) {
      it('runs the same in shadow, and not at all when dead', async () => {
        const kernel = await compile(bench, shape);
        const exact = await run(bench, kernel, qkv, 2, 5);
        for (const state of MODES) {
          const out = await run(bench, kernel, qkv, 2, 5, { state });
          if (state.attention === 'dead') expectUntouched(out, describeCase(state));
          else expectSameBits(out, exact, describeCase(state));
        }
      });
    }

    async function run(
      where: Bench,
      kernel: Attention,
      rowsOfQkv: Float32Array,
      rows: number,
      position: number,
      {
        k = kCache,
        v = vCache,
        state = {},
        sinks = new Float32Array(4),
      }: { k?: Row | Packed; v?: Row | Packed; state?: PassState; sinks?: Float32Array } = {},
    ): Promise<Float32Array> {
      const blank = new Float32Array(rows * heads * headDim).fill(SENTINEL);
      const b = await where.place({
        qkv: rowsOfQkv,
        kCache: k,
        vCache: v,
        out: blank,
        control: createControl(state),
        sinks,
      });
      const command = kernel.bind({ ...b, moeLayer: where.uniform(LAYER), step: where.uniform(rows, position) });
      const [bytes] = await where.run([[command, rows]], [b.out]);
      return new Float32Array(bytes!, 0, blank.length);
    }
  });
});

function compile(
  bench: Bench,
  { context, ...shape }: Parameters<typeof createAttention>[0] & { context: number },
  kvType: KvType = 'f32',
): Promise<Attention> {
  const spec: AttentionSpec = {
    attention: createAttention(shape),
    slides: shape.window !== undefined,
    cacheLength: context,
    kvType,
  };
  return bench.compileOnce(spec, () => compileAttention(bench.device, bench.variant, spec));
}
