import { describe, expect, it } from 'vitest';
import type { WeightType } from '../../src/checkpoint/model-config';
import { compileMlpGateUp } from '../../src/kernels/mlp-gate-up';
import type { Products } from '../../src/kernels/variant';
import { expertFactor } from '../reference/expert-gate-up';
import { mlpGateUp } from '../reference/mlp-gate-up';
import { getGateUpTolerance } from './expert-pages';
import {
  createControl,
  createRandom,
  expectClose,
  expectSameBits,
  expectUntouched,
  onGrid,
  openBenches,
  type PassState,
  randomFloats,
  randomWeights,
  SENTINEL,
} from './harness';
import { describeCase, LAYER, MODES } from './modes';

const ROWS = 3;
/** Rows of a half of x: more than any pass here has. */
const CAPACITY = 4;

/** [type, hidden, width, scaled, products] */
const SHAPES: readonly [WeightType, number, number, boolean, Products?][] = [
  ['f32', 32, 32, false],
  ['q4_0', 96, 160, true],
  ['q8_0', 160, 96, false],
  ['bf16', 64, 32, true],
  ['f16', 32, 96, false],
  ['q4_0', 96, 160, false, 'packed'],
  ['q8_0', 160, 96, false, 'packed'],
  ['q4_0', 96, 160, false, 'f16'],
  ['q8_0', 160, 96, false, 'f16'],
];

const benches = await openBenches();

describe.each(benches)('mlp_gate_up, $name', (bench) => {
  it.each(bench.thin(SHAPES.filter(([, , , , products = 'plain']) => bench.offers(products))))(
    '%s, hidden size %i, width %i, scaled %s, products %s',
    async (...shape) => {
      const { run, values, x, scale, hidden, width, isScaled } = await prepare(shape);
      const act = await run(x);
      for (let row = 0; row < ROWS; row++) {
        const own = x.slice(row * hidden, (row + 1) * hidden);
        const got = act.slice(row * width, (row + 1) * width);
        const expected = mlpGateUp(values, own, isScaled ? scale : null);
        const half = values.length / 2;
        const tolerance = getGateUpTolerance(values.subarray(0, half), values.subarray(half), own);
        expectClose(got, expected, isScaled ? tolerance.map((bound) => bound + 1e-4) : tolerance, `row ${row}`);
        expectSameBits(await run(own), got, `row ${row} alone`);
      }
    },
  );

  it('reads its shadow input behind a fault, and does nothing when dead', async () => {
    const { run, x } = await prepare(SHAPES[1]!);
    const shadow = randomFloats(createRandom(8), x.length);
    const exact = await run(x);
    const onShadow = await run(shadow);
    expect(onShadow).not.toEqual(exact);
    for (const state of MODES) {
      const act = await run(x, shadow, state);
      const what = describeCase(state);
      if (state.attention === 'dead') expectUntouched(act, what);
      else expectSameBits(act, state.attention === 'shadow' ? onShadow : exact, what);
    }
  });

  it('multiplies what is there with the third product', async () => {
    const [type, hidden, width] = SHAPES[1]!;
    const spec = { type, isScaled: false, isFactor: true, rowsCapacity: CAPACITY };
    const kernel = await bench.compileOnce(spec, () => compileMlpGateUp(bench.device, bench.variant, spec));
    const random = createRandom(11);
    const { packed, values } = randomWeights(random, type, width, hidden);
    const x = randomFloats(random, 2 * CAPACITY * hidden);
    const before = randomFloats(random, ROWS * width);
    const b = await bench.place({
      weights: packed,
      x,
      scale: new Float32Array(4),
      act: before,
      control: createControl({}),
    });
    const command = kernel.bind({ ...b, shape: bench.uniform(width, hidden / 32, LAYER) }, width);
    const [bytes] = await bench.run([[command, ROWS]], [b.act]);
    const act = new Float32Array(bytes!, 0, before.length);
    for (let row = 0; row < ROWS; row++) {
      const own = x.subarray(row * hidden, (row + 1) * hidden);
      const was = before.subarray(row * width, (row + 1) * width);
      expectClose(act.slice(row * width, (row + 1) * width), expertFactor(values, own, was), 2e-5, `row ${row}`);
    }
  });

  async function prepare([type, hidden, width, isScaled, products = 'plain']: (typeof SHAPES)[number]) {
    const random = createRandom(hidden + width);
    const { packed, values } = randomWeights(random, type, 2 * width, hidden);
    const raw = randomFloats(random, ROWS * hidden);
    const x = onGrid(raw, products);
    const scale = randomFloats(random, hidden);
    const spec = { type, isScaled, rowsCapacity: CAPACITY };
    const kernel = await bench.compileOnce([spec, products], () =>
      compileMlpGateUp(bench.device, { ...bench.variant, products }, spec),
    );
    const run = async (exact: Float32Array, shadow = new Float32Array(0), state: PassState = {}) => {
      const halves = new Float32Array(2 * CAPACITY * hidden).fill(SENTINEL);
      halves.set(exact);
      halves.set(shadow, CAPACITY * hidden);
      const rows = exact.length / hidden;
      const blank = new Float32Array(rows * width).fill(SENTINEL);
      const b = await bench.place({ weights: packed, x: halves, scale, act: blank, control: createControl(state) });
      const command = kernel.bind({ ...b, shape: bench.uniform(width, hidden / 32, LAYER) }, width);
      const [bytes] = await bench.run([[command, rows]], [b.act]);
      return new Float32Array(bytes!, 0, blank.length);
    };
    return { run, values, x, scale, hidden, width, isScaled };
  }
});
