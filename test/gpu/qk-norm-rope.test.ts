import { describe, it } from 'vitest';
import type { AttentionConfig, RopeConfig } from '../../src/checkpoint/model-config';
import { getKvRowBytes, type KvType } from '../../src/kernels/kv-type';
import { compileQkNormRope, type QkNormRope } from '../../src/kernels/qk-norm-rope';
import { createAttention } from '../plain-config';
import { getKvTolerance, unpackKv } from '../reference/kv-cache';
import { qkNormRope } from '../reference/qk-norm-rope';
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

const CONTEXT = 12;
const EPSILON = 1e-5;

type Shape = Pick<AttentionConfig, 'heads' | 'kvHeads' | 'headDim' | 'qkNorm' | 'clipQkv'> &
  Partial<Pick<RopeConfig, 'dims' | 'pairing'>> & { readonly kvType?: KvType };

const SHAPES: readonly (Shape & { readonly position: number; readonly rows: number; readonly kvType?: KvType })[] = [
  { heads: 4, kvHeads: 4, headDim: 32, qkNorm: 'full', clipQkv: null, position: 0, rows: 3 },
  { heads: 4, kvHeads: 2, headDim: 20, qkNorm: 'full', clipQkv: 0.75, position: 5, rows: 7 },
  { heads: 6, kvHeads: 2, headDim: 4, qkNorm: 'none', clipQkv: null, position: 11, rows: 1 },
  { heads: 2, kvHeads: 1, headDim: 64, qkNorm: 'none', clipQkv: 0.5, position: 3, rows: 2 },
  { heads: 1, kvHeads: 1, headDim: 12, qkNorm: 'full', clipQkv: null, position: 1, rows: 5 },
  { heads: 5, kvHeads: 1, headDim: 24, qkNorm: 'head', clipQkv: null, dims: 12, position: 2, rows: 3 },
  { heads: 4, kvHeads: 2, headDim: 16, qkNorm: 'none', clipQkv: null, pairing: 'interleaved', position: 6, rows: 4 },
  { heads: 3, kvHeads: 3, headDim: 8, qkNorm: 'head-after-rope', clipQkv: null, position: 4, rows: 3 },
  { heads: 4, kvHeads: 2, headDim: 20, qkNorm: 'full', clipQkv: 0.75, position: 5, rows: 7, kvType: 'f16' },
  { heads: 2, kvHeads: 1, headDim: 64, qkNorm: 'none', clipQkv: 0.5, position: 3, rows: 2, kvType: 'f16' },
  { heads: 5, kvHeads: 1, headDim: 24, qkNorm: 'head', clipQkv: null, dims: 12, position: 2, rows: 3, kvType: 'q8' },
  {
    heads: 4,
    kvHeads: 2,
    headDim: 52,
    qkNorm: 'none',
    clipQkv: null,
    pairing: 'interleaved',
    position: 6,
    rows: 4,
    kvType: 'q8',
  },
];

type Row = Float32Array<ArrayBuffer>;

const benches = await openBenches();

interface Inputs {
  readonly qkv: Float32Array;
  readonly norms: Float32Array;
  readonly rope: Float32Array;
}

function createInputs({ heads, kvHeads, headDim, qkNorm }: Shape, rows: number): Inputs {
  const random = createRandom(heads * headDim + kvHeads);
  const rope = new Float32Array(CONTEXT * headDim);
  for (let i = 0; i < rope.length / 2; i++) {
    const angle = random() * 2 * Math.PI;
    rope.set([Math.cos(angle), Math.sin(angle)], 2 * i);
  }
  return {
    qkv: randomFloats(random, rows * (heads + 2 * kvHeads) * headDim, 1.5),
    norms: randomFloats(random, (qkNorm === 'full' ? heads + kvHeads : 2) * headDim, 1.5),
    rope,
  };
}

async function run(
  bench: Bench,
  kernel: QkNormRope,
  { kvHeads, headDim, kvType = 'f32' }: Shape,
  { qkv, norms, rope }: Inputs,
  position: number,
  rows: number,
  state: PassState = {},
): Promise<Record<'qkv' | 'k' | 'v', Float32Array<ArrayBuffer>>> {
  const cache = new Float32Array((kvHeads * CONTEXT * getKvRowBytes(kvType, headDim)) / 4).fill(SENTINEL);
  const b = await bench.place({ qkv, norms, rope, kCache: cache, vCache: cache, control: createControl(state) });
  const command = kernel.bind({ ...b, moeLayer: bench.uniform(LAYER), step: bench.uniform(rows, position) });
  const bytes = await bench.run([[command, rows]], [b.qkv, b.kCache, b.vCache]);
  return {
    qkv: new Float32Array(bytes[0]!, 0, qkv.length),
    k: new Float32Array(bytes[1]!, 0, cache.length),
    v: new Float32Array(bytes[2]!, 0, cache.length),
  };
}

describe.each(benches)('qk_norm_rope, $name', (bench) => {
  const compile = (shape: Shape) =>
    bench.compileOnce(shape, () =>
      compileQkNormRope(bench.device, bench.variant, {
        attention: createAttention({
          ...shape,
          rope: { theta: 1e4, dims: shape.headDim, pairing: 'half', scaling: null, ...shape },
        }),
        cacheLength: CONTEXT,
        kvType: shape.kvType ?? 'f32',
        epsilon: EPSILON,
      }),
    );

  it.each(bench.thin(SHAPES))(
    'norms ($qkNorm), clips ($clipQkv) and turns $heads heads of $headDim over $kvHeads, rows $rows from $position, $kvType',
    async ({ position, rows, ...shape }) => {
      const { heads, kvHeads, headDim, kvType = 'f32' } = shape;
      const inputs = createInputs(shape, rows);
      const kernel = await compile(shape);
      const got = await run(bench, kernel, shape, inputs, position, rows);

      const reference = {
        ...shape,
        epsilon: EPSILON,
        clip: shape.clipQkv,
        ropeDims: shape.dims ?? headDim,
        pairing: shape.pairing ?? 'half',
      };
      const { q, k, v } = qkNormRope(reference, inputs.qkv, inputs.norms, inputs.rope, position);
      const [qWidth, kvWidth] = [heads * headDim, kvHeads * headDim];
      const width = qWidth + 2 * kvWidth;
      const qkv = Float64Array.from(inputs.qkv);
      for (let row = 0; row < rows; row++) {
        qkv.set(q.subarray(row * qWidth, (row + 1) * qWidth), row * width);
        qkv.set(k.subarray(row * kvWidth, (row + 1) * kvWidth), row * width + qWidth);
      }
      expectClose(got.qkv, qkv, 4e-6, 'q and k turned, the rest untouched');
      const rowWords = getKvRowBytes(kvType, headDim) / 4;
      const isWritten = (place: number) => place % CONTEXT >= position && place % CONTEXT < position + rows;
      for (let place = 0; place < kvHeads * CONTEXT; place++) {
        const [head, row] = [Math.floor(place / CONTEXT), (place % CONTEXT) - position];
        const [keys, values] = [got.k, got.v].map((cache) => cache.slice(place * rowWords, (place + 1) * rowWords)) as [
          Row,
          Row,
        ];
        if (!isWritten(place)) {
          expectUntouched(keys, `k at place ${place}`);
          expectUntouched(values, `v at place ${place}`);
          continue;
        }
        const from = row * kvWidth + head * headDim;
        const [key, value] = [k, v].map((whole) => whole.subarray(from, from + headDim)) as [
          Float64Array,
          Float64Array,
        ];
        const keyTolerance = getKvTolerance(kvType, key, headDim).map((step) => step + 4e-6);
        const stored = [keys, values].map((cache) => unpackKv(kvType, new Uint8Array(cache.buffer), 1, headDim));
        expectClose(stored[0] as Float32Array, key, keyTolerance, `k of row ${row}`);
        expectClose(stored[1] as Float32Array, value, getKvTolerance(kvType, value, headDim), `v of row ${row}`);
      }

      for (let row = 0; row < rows; row++) {
        const own = { ...inputs, qkv: inputs.qkv.slice(row * width, (row + 1) * width) };
        const alone = await run(bench, kernel, shape, own, position + row, 1);
        expectSameBits(got.qkv.slice(row * width, (row + 1) * width), alone.qkv, `qkv of row ${row}`);
        for (let head = 0; head < kvHeads; head++) {
          const at = (head * CONTEXT + position + row) * rowWords;
          expectSameBits(got.k.slice(at, at + rowWords), alone.k.slice(at, at + rowWords), `k of row ${row}`);
        }
      }
    },
  );

  it('runs the same in shadow, and not at all when dead', async () => {
    const { rows, position, ...shape } = SHAPES[0]!;
    const inputs = createInputs(shape, rows);
    const kernel = await compile(shape);
    const exact = await run(bench, kernel, shape, inputs, position, rows);
    for (const state of MODES) {
      const got = await run(bench, kernel, shape, inputs, position, rows, state);
      const isDead = state.attention === 'dead';
      expectSameBits(got.qkv, isDead ? inputs.qkv : exact.qkv, describeCase(state));
      for (const cache of ['k', 'v'] as const) {
        if (isDead) expectUntouched(got[cache], `${cache}, ${describeCase(state)}`);
        else expectSameBits(got[cache], exact[cache], `${cache}, ${describeCase(state)}`);
      }
    }
  });
});
