import { describe, it } from 'vitest';
import { compileLatentRope } from '../../src/kernels/latent-rope';
import { createAttention } from '../plain-config';
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
    [3, 36, 20, 8, 'interleaved'],
    [1, 100, 4, 2, 'half'],
  ] as const)('%i heads, rank %i, plain %i, turning %i, %s', async (heads, rank, plainDim, ropeDims, pairing) => {
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
    const spec = { attention, latent, cacheLength: CONTEXT };
    const kernel = await bench.compileOnce(spec, () => compileLatentRope(bench.device, bench.variant, spec));
    const shape = { heads, rank, plainDim, ropeDims, isInterleaved: pairing === 'interleaved', epsilon: EPSILON };
    for (const state of MODES) {
      const b = await bench.place({
        projections,
        norm,
        rope,
        cache: new Float32Array(CONTEXT * headDim).fill(SENTINEL),
        queries: new Float32Array(ROWS * heads * headDim).fill(SENTINEL),
        control: createControl(state),
      });
      const command = kernel.bind({ ...b, moeLayer: bench.uniform(LAYER), step: bench.uniform(ROWS, POSITION) });
      const [cacheBytes, queryBytes] = await bench.run([[command, ROWS]], [b.cache, b.queries]);
      const cache = new Float32Array(cacheBytes!, 0, CONTEXT * headDim);
      const queries = new Float32Array(queryBytes!, 0, ROWS * heads * headDim);
      const what = describeCase(state);
      if (state.attention === 'dead') {
        expectUntouched(cache, what);
        expectUntouched(queries, what);
        continue;
      }
      expectUntouched(cache.slice(0, POSITION * headDim), `positions before, ${what}`);
      expectUntouched(cache.slice((POSITION + ROWS) * headDim), `positions behind, ${what}`);
      for (let row = 0; row < ROWS; row++) {
        const position = POSITION + row;
        const turns = rope.subarray(position * ropeDims, (position + 1) * ropeDims);
        const expected = latentRope(shape, projections.slice(row * width, (row + 1) * width), norm, turns);
        expectClose(cache.slice(position * headDim, (position + 1) * headDim), expected.cached, 1e-5, what);
        for (let head = 0; head < heads; head++) {
          const at = (row * heads + head) * headDim;
          expectUntouched(queries.slice(at, at + rank), `what other kernels write, ${what}`);
          expectClose(queries.slice(at + rank, at + headDim), expected.queries[head]!, 1e-5, what);
        }
      }
    }
  });
});
