import { describe, it } from 'vitest';
import { compileNorm } from '../../src/kernels/norm';
import { normalize } from '../reference/rms-norm';
import {
  createControl,
  createRandom,
  expectClose,
  expectSameBits,
  expectUntouched,
  openBenches,
  randomFloats,
  SENTINEL,
} from './harness';
import { describeCase, LAYER, MODES } from './modes';

const ROWS = 3;
/** Rows of a half of the residual stream: more than the pass has. */
const CAPACITY = 5;
const EPSILON = 1e-5;

const benches = await openBenches();

describe.each(benches)('norm, $name', (bench) => {
  it.each([
    ['rms', 36],
    ['layer', 96],
  ] as const)('%s of %i values: the exact half, or behind a fault the shadow one', async (kind, hidden) => {
    const random = createRandom(hidden);
    const half = CAPACITY * hidden;
    const residual = randomFloats(random, 2 * half, 3);
    const weights = randomFloats(random, (kind === 'layer' ? 2 : 1) * hidden, 2);
    const spec = { hiddenSize: hidden, norm: { kind, epsilon: EPSILON }, rowsCapacity: CAPACITY };
    const kernel = await bench.compileOnce(spec, () => compileNorm(bench.device, bench.variant, spec));
    const expected = [0, half].map((from) =>
      normalize(kind, residual.subarray(from, from + ROWS * hidden), weights, EPSILON),
    );
    const seen: (Float32Array | undefined)[] = [];
    for (const state of MODES) {
      const blank = new Float32Array(2 * half).fill(SENTINEL);
      const b = await bench.place({ residual, norm: weights, x: blank, control: createControl(state) });
      const command = kernel.bind({ ...b, place: bench.uniform(LAYER, half) });
      const [bytes] = await bench.run([[command, ROWS]], [b.x]);
      const x = new Float32Array(bytes!, 0, blank.length);
      const what = describeCase(state);
      const written = state.attention === 'dead' ? null : state.attention === 'shadow' ? 1 : 0;
      for (const which of [0, 1]) {
        const own = x.slice(which * half, which * half + ROWS * hidden);
        if (which === written) {
          expectClose(own, expected[which]!, 1e-5, what);
          seen[which] ??= own;
          expectSameBits(own, seen[which], what);
        } else expectUntouched(own, `other half, ${what}`);
        expectUntouched(
          x.slice(which * half + ROWS * hidden, (which + 1) * half),
          `rows that the pass has not, ${what}`,
        );
      }
    }
  });
});
