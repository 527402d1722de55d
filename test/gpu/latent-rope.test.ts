import { describe, it } from 'vitest';
import { getKvRowBytes } from '../../src/kernels/kv-type';
import { compileLatentRope } from '../../src/kernels/latent-rope';
import { createAttention } from '../plain-config';
import { getKvTolerance, unpackKv } from '../reference/kv-cache';
import { latentRope } from '../reference/latent-rope';
import {
  createControl,
  createRandom,
  expectClose,
  expectUntouched,
  openBenches,
  randomFloats,
  SENTINEL,
} from './harness';
import { describeCase, LAYER, MODES } from './modes';

const ROWS = 3;
const CONTEXT = 9;
const POSITION = 4;
const EPSILON = 1e-6;

const benches = await openBenches();

describe.each(benches)('latent_rope, $name', (bench) => {
  it.each([
    [3, 36, 20, 8, 'interleaved', 'f32'],
    [1, 100, 4, 4, 'half', 'f32'],
    [1, 100, 4, 4, 'half', 'f16'],
    [3, 36, 20, 8, 'interleaved', 'q8'],
    [1, 52, 4, 16, 'half', 'q8'],
  ] as const)(
    '%i heads, rank %i, plain %i, turning %i, %s, %s',
    async (heads, rank, plainDim, ropeDims, pairing, kvType) => {
      const random = createRandom(rank);
      const width = heads * (plainDim + ropeDims) + rank + ropeDims;
      const projections = randomFloats(random, ROWS * width, 2);
      const norm = randomFloats(random, rank, 2);
      const rope = randomFloats(random, CONTEXT * ropeDims);
      const headDim = rank + ropeDims;
      const attention = createAttention({
        heads,
        kvHeads: 1,
        headDim,
        rope: { theta: 1e4, dims: ropeDims, pairing, scaling: null },
      });
      const latent = { rank, plainDim, valueDim: 4, queryRank: null, epsilon: EPSILON };
      const spec = { attention, latent, cacheLength: CONTEXT, kvType };
      const rowBytes = getKvRowBytes(kvType, headDim);
      const kernel = await bench.compileOnce(spec, () => compileLatentRope(bench.device, bench.variant, spec));
      const shape = { heads, rank, plainDim, ropeDims, isInterleaved: pairing === 'interleaved', epsilon: EPSILON };
      for (const state of MODES) {
        const b = await bench.place({
          projections,
          norm,
          rope,
          cache: new Float32Array((CONTEXT * rowBytes) / 4).fill(SENTINEL),
          queries: new Float32Array(ROWS * heads * headDim).fill(SENTINEL),
          control: createControl(state),
        });
        const command = kernel.bind({ ...b, moeLayer: bench.uniform(LAYER), step: bench.uniform(ROWS, POSITION) });
        const [cacheBytes, queryBytes] = await bench.run([[command, ROWS]], [b.cache, b.queries]);
        const cache = new Float32Array(cacheBytes!, 0, (CONTEXT * rowBytes) / 4);
        const queries = new Float32Array(queryBytes!, 0, ROWS * heads * headDim);
        const what = describeCase(state);
        if (state.attention === 'dead') {
          expectUntouched(cache, what);
          expectUntouched(queries, what);
          continue;
        }
        expectUntouched(cache.slice(0, (POSITION * rowBytes) / 4), `positions before, ${what}`);
        expectUntouched(cache.slice(((POSITION + ROWS) * rowBytes) / 4), `positions behind, ${what}`);
        for (let row = 0; row < ROWS; row++) {
          const position = POSITION + row;
          const turns = rope.subarray(position * ropeDims, (position + 1) * ropeDims);
          const expected = latentRope(shape, projections.slice(row * width, (row + 1) * width), norm, turns);
          const bytes = new Uint8Array(cacheBytes!.slice(position * rowBytes, (position + 1) * rowBytes));
          const tolerance = getKvTolerance(kvType, expected.cached, headDim).map((step) => step + 1e-5);
          expectClose(unpackKv(kvType, bytes, 1, headDim), expected.cached, tolerance, what);
          for (let head = 0; head < heads; head++) {
            const at = (row * heads + head) * headDim;
            expectUntouched(queries.slice(at, at + rank), `what other kernels write, ${what}`);
            expectClose(queries.slice(at + rank, at + headDim), expected.queries[head]!, 1e-5, what);
          }
        }
      }
    },
  );
});
