/**
 * Attention whose positions are cut into spans, and the products that add them up (lib/x_spans.wgsl): after one another, as a
 * pass runs them.
 */
import { describe, expect, it } from 'vitest';
import { compileAttention, getSpansWords } from '../../src/kernels/attention';
import { compileHeadMatvec } from '../../src/kernels/head-matvec';
import type { KvType } from '../../src/kernels/kv-type';
import { compileMatvec, NO_SHADOW } from '../../src/kernels/matvec';
import { createAttention } from '../plain-config';
import { attention } from '../reference/attention';
import { addSpans, cutSpans } from '../reference/attention-spans';
import { packKv, unpackKv } from '../reference/kv-cache';
import { matvec } from '../reference/matvec';
import {
  createControl,
  createRandom,
  expectClose,
  expectSameBits,
  expectUntouched,
  openBenches,
  type PassState,
  randomFloats,
  randomWeights,
  SENTINEL,
} from './harness';
import { describeCase, LAYER, MODES } from './modes';

const SPANS = 3;
const CONTEXT = 704;
const ROWS = 3;
/** Rows of the matrix behind attention; of a head's, where there is one for each. */
const MATRIX_ROWS = 9;
/** Of the first of three rows: one span, at the edge of two, three, and three of two chunks. */
const POSITIONS = [0, 126, 300, 650];

interface Shape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly kvType: KvType;
  /** Of latent attention. */
  readonly rank?: number;
  readonly window?: number;
  readonly hasSinks?: boolean;
}

const SHAPES: readonly Shape[] = [
  { heads: 8, kvHeads: 2, headDim: 20, kvType: 'f32' },
  { heads: 6, kvHeads: 3, headDim: 16, kvType: 'f16', window: 450, hasSinks: true },
  { heads: 3, kvHeads: 1, headDim: 40, rank: 32, kvType: 'q8' },
];

const benches = await openBenches();

describe.each(benches)('attention in spans, $name', (bench) => {
  it.each(bench.thin(SHAPES))('%o: the spans, and the product that adds them up', async (shape) => {
    const { run, reference, valueDim, sizes } = await prepare(shape);
    for (const position of POSITIONS) {
      const { spans, product, perHead } = await run(ROWS, position);
      const { out, mixed, mixedPerHead } = reference(position);
      for (let row = 0; row < ROWS; row++) {
        const end = position + row + 1;
        const cuts = cutSpans(Math.max(0, end - (shape.window ?? end)), end, SPANS, bench.variant.attentionChunk);
        for (let head = 0; head < shape.heads; head++) {
          const at = (row * shape.heads + head) * SPANS * (valueDim + 4);
          const found = cuts.map((_, i) => {
            const own = spans.subarray(at + i * (valueDim + 4), at + (i + 1) * (valueDim + 4));
            return { sum: own.subarray(0, valueDim), highest: own[valueDim]!, weight: own[valueDim + 1]! };
          });
          expect(spans[at + valueDim + 2], `spans from position ${position}, row ${row}`).toBe(cuts.length);
          expectUntouched(spans.slice(at + cuts.length * (valueDim + 4), at + SPANS * (valueDim + 4)), 'behind them');
          const own = out.subarray((row * shape.heads + head) * valueDim, (row * shape.heads + head + 1) * valueDim);
          expectClose(Float32Array.from(addSpans(found, valueDim)), own, 1e-5, `row ${row}, head ${head}`);
        }
      }
      expectClose(product, mixed, 2e-4, `product from position ${position}`);
      expectClose(perHead, mixedPerHead, 2e-4, `head by head from position ${position}`);
      // A row has the bits that it has alone.
      const alone = await run(1, position + 1, 1);
      expectSameBits(product.slice(MATRIX_ROWS, 2 * MATRIX_ROWS), alone.product, `row 1 from position ${position}`);
      expectSameBits(perHead.slice(sizes.perHead, 2 * sizes.perHead), alone.perHead, 'head by head');
    }
  });

  it('gives the same in shadow, and nothing when dead', async () => {
    const { run } = await prepare(SHAPES[2]!);
    const exact = await run(1, 300);
    for (const state of MODES) {
      const { spans, perHead } = await run(1, 300, 0, state);
      if (state.attention === 'dead') {
        expectUntouched(spans, describeCase(state));
        expectUntouched(perHead, describeCase(state));
      } else {
        expectSameBits(spans, exact.spans, describeCase(state));
        expectSameBits(perHead, exact.perHead, describeCase(state));
      }
    }
  });

  async function prepare({ kvType, rank, ...shape }: Shape) {
    const { heads, kvHeads, headDim, window } = shape;
    const valueDim = rank ?? headDim;
    const context = window ? window + ROWS : CONTEXT;
    const base = { heads, kvHeads, headDim, scale: 0.4, ...(window ? { window, hasSinks: true } : {}) };
    const latent = rank ? { rank, plainDim: 8, valueDim: 8, queryRank: null, epsilon: 1e-6 } : null;
    const config = createAttention(latent ? { ...base, latent } : base);
    const spec = { attention: config, slides: window !== undefined, cacheLength: context, kvType };
    const variant = { ...bench.variant, attentionSpans: SPANS };
    const random = createRandom(headDim);
    const stride = (rank ? heads : heads + 2 * kvHeads) * headDim;
    const qkv = randomFloats(random, ROWS * stride, 2);
    const caches = [0, 1].map(() => packKv(kvType, randomFloats(random, kvHeads * context * headDim, 2), headDim));
    const [k, v] = (rank ? [caches[0]!, caches[0]!] : caches) as [(typeof caches)[number], (typeof caches)[number]];
    const sinks = shape.hasSinks ? randomFloats(random, heads, 4) : new Float32Array(heads);
    const cols = heads * valueDim;
    const matrix = randomWeights(random, 'f32', MATRIX_ROWS, cols);
    const perHeadCols = Math.floor(valueDim / 32) * 32;
    const headMatrix = randomWeights(random, 'f32', heads * MATRIX_ROWS, Math.max(32, perHeadCols));
    const [kernel, product, perHead] = await Promise.all([
      bench.compileOnce(['spans', spec], () => compileAttention(bench.device, variant, spec)),
      bench.compileOnce(['product', config], () =>
        compileMatvec(bench.device, variant, {
          type: 'f32',
          accumulate: false,
          hasBias: false,
          scale: 1,
          spansOf: config,
        }),
      ),
      bench.compileOnce(['heads', config], () =>
        compileHeadMatvec(bench.device, variant, { type: 'f32', spansOf: config }),
      ),
    ]);
    // Of values that are no whole blocks head by head there is no product.
    const sizes = { spans: getSpansWords(config, SPANS), perHead: perHeadCols ? heads * MATRIX_ROWS : 0 };

    const run = async (rows: number, position: number, firstRow = 0, state: PassState = {}) => {
      const blank = (words: number) => new Float32Array(rows * words).fill(SENTINEL);
      const b = await bench.place({
        qkv: qkv.slice(firstRow * stride, (firstRow + rows) * stride),
        kCache: k,
        ...(rank ? {} : { vCache: v }),
        sinks,
        control: createControl(state),
        matrix: matrix.packed,
        headMatrix: headMatrix.packed,
        spans: blank(sizes.spans),
        y: blank(MATRIX_ROWS),
        perHead: blank(Math.max(4, sizes.perHead)),
      } as Record<string, Float32Array | Uint32Array | Uint8Array>);
      const { control } = b as { control: GPUBuffer };
      const get = (name: string): GPUBuffer => (b as Record<string, GPUBuffer>)[name] as GPUBuffer;
      const [spans, y, heads32] = [get('spans'), get('y'), get('perHead')];
      const attend = kernel.bind({
        moeLayer: bench.uniform(LAYER),
        step: bench.uniform(rows, position),
        qkv: get('qkv'),
        kCache: get('kCache'),
        vCache: get(rank ? 'kCache' : 'vCache'),
        out: spans,
        control,
        sinks: get('sinks'),
      });
      const shapeOf = bench.uniform(MATRIX_ROWS, cols / 32, 0, MATRIX_ROWS, LAYER, NO_SHADOW);
      const multiply = product.bind(
        { shape: shapeOf, weights: get('matrix'), x: spans, y, control, bias: get('sinks') },
        MATRIX_ROWS,
      );
      const places = [cols / 4, valueDim / 4, heads * MATRIX_ROWS, MATRIX_ROWS];
      const shapeOfHeads = bench.uniform(MATRIX_ROWS, perHeadCols / 32, heads, ...places, LAYER);
      const multiplyHeads = perHead.bind(
        { shape: shapeOfHeads, weights: get('headMatrix'), x: spans, y: heads32, control },
        heads,
        MATRIX_ROWS,
      );
      const commands = [attend, multiply, ...(perHeadCols ? [multiplyHeads] : [])];
      const found = await bench.run(
        commands.map((command) => [command, rows] as const),
        [spans, y, heads32],
      );
      const [foundSpans, foundY, foundPerHead] = found as [ArrayBuffer, ArrayBuffer, ArrayBuffer];
      return {
        spans: new Float32Array(foundSpans, 0, rows * sizes.spans),
        product: new Float32Array(foundY, 0, rows * MATRIX_ROWS),
        perHead: new Float32Array(foundPerHead, 0, rows * sizes.perHead),
      };
    };

    const [keys, values] = [k, v].map((cache) => unpackKv(kvType, cache, kvHeads * context, headDim)) as [
      Float32Array,
      Float32Array,
    ];
    const reference = (position: number) => {
      const q = new Float32Array(ROWS * heads * headDim);
      for (let row = 0; row < ROWS; row++) {
        q.set(qkv.subarray(row * stride, row * stride + heads * headDim), row * heads * headDim);
      }
      const own = { ...base, context, ...(shape.hasSinks ? { sinks } : {}) };
      const whole = attention(own, q, keys, values, position);
      const out = Float64Array.from({ length: ROWS * cols }, (_, i) => {
        return whole[Math.floor(i / valueDim) * headDim + (i % valueDim)]!;
      });
      return {
        out,
        mixed: matvec(matrix.values, Float32Array.from(out), MATRIX_ROWS, cols),
        mixedPerHead: Float64Array.from({ length: ROWS * sizes.perHead }, (_, i) => {
          const at = Math.floor(i / MATRIX_ROWS);
          const w = (at % heads) * MATRIX_ROWS + (i % MATRIX_ROWS);
          const row = headMatrix.values.subarray(w * perHeadCols, (w + 1) * perHeadCols);
          return matvec(
            row,
            Float32Array.from(out.subarray(at * valueDim, at * valueDim + perHeadCols)),
            1,
            perHeadCols,
          )[0]!;
        }),
      };
    };
    return { run, reference, valueDim, sizes };
  }
});
