import { describe, it } from 'vitest';
import { compileRouterState } from '../../src/kernels/router-state';
import { routerState } from '../reference/router-state';
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
import { describeCase, LAYER, LAYERS, MODES } from './modes';

const ROWS = 3;
/** Rows of a half of the residual stream and of x: more than any pass here has. */
const CAPACITY = 5;

const benches = await openBenches();

describe.each(benches)('router_state, $name', (bench) => {
  async function prepare(hidden: number, width: number, kind: 'rms' | 'layer') {
    const norm = { kind, epsilon: 1e-5 } as const;
    const random = createRandom(hidden + width);
    const spec = { hiddenSize: hidden, stateWidth: width, norm, rowsCapacity: CAPACITY };
    const kernel = await bench.compileOnce(spec, () => compileRouterState(bench.device, bench.variant, spec));
    const input = randomFloats(random, ((kind === 'layer' ? 2 : 1) + width) * hidden, 0.5);
    const cell = randomFloats(random, 6 * width * (width + 1), 0.4);
    const half = CAPACITY * hidden;
    const residual = randomFloats(random, 2 * half, 3);
    const before = randomFloats(random, ROWS * width, 1);

    /** States that a pass over `rows` rows, from `first` on, makes in a layer. */
    async function run(layer: number, first: number, rows: number, state: Partial<(typeof MODES)[number]> = {}) {
      const states = new Float32Array(LAYERS * rows * width).fill(SENTINEL);
      if (layer > 0) states.set(before.subarray(first * width, (first + rows) * width), (layer - 1) * rows * width);
      const moved = residual.slice();
      for (const from of [0, half]) moved.copyWithin(from, from + first * hidden, from + (first + rows) * hidden);
      const b = await bench.place({
        input,
        cell,
        residual: moved,
        control: createControl(state),
        x: new Float32Array(2 * half).fill(SENTINEL),
        states,
      });
      const command = kernel.bind({ ...b, moeLayer: bench.uniform(layer), step: bench.uniform(rows, 0) });
      const [bytes] = await bench.run([[command, rows]], [b.states]);
      const all = new Float32Array(bytes!, 0, states.length);
      const at = layer * rows * width;
      expectUntouched(all.slice(at + rows * width), 'layers behind');
      return all.slice(at, at + rows * width);
    }
    const getExpected = (from: number, state: Float32Array) =>
      routerState({ hidden, width, norm }, input, cell, residual.subarray(from, from + ROWS * hidden), state);
    return { run, getExpected, before, half, width };
  }

  it.each([
    [64, 32, 'rms'],
    [36, 96, 'layer'],
    [32, 4, 'rms'],
  ] as const)(
    '%i values, a state of %i, %s norm: from the layer before, in the first from nothing',
    async (hidden, width, kind) => {
      const { run, getExpected, before } = await prepare(hidden, width, kind);
      const got = await run(LAYER, 0, ROWS);
      expectClose(got, getExpected(0, before), 2e-5, 'state');
      expectClose(
        await run(0, 0, ROWS),
        getExpected(0, new Float32Array(before.length)),
        2e-5,
        'state of the first layer',
      );
      for (let row = 0; row < ROWS; row++) {
        expectSameBits(got.slice(row * width, (row + 1) * width), await run(LAYER, row, 1), `row ${row} alone`);
      }
    },
  );

  it('behind a fault goes on from the shadow, from the exact residual stream at depth 1', async () => {
    const { run, getExpected, before, half } = await prepare(32, 32, 'rms');
    for (const state of MODES) {
      const got = await run(LAYER, 0, ROWS, state);
      const what = describeCase(state);
      if (state.router === 'dead') expectUntouched(got, what);
      else {
        const isShadow = state.router === 'shadow' && state.runAhead > 1;
        expectClose(got, getExpected(isShadow ? half : 0, before), 2e-5, what);
      }
    }
  });
});
