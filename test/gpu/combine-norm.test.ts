import { describe, expect, it } from 'vitest';
import { type CombineNorm, compileCombineNorm } from '../../src/kernels/combine-norm';
import { CONTROL } from '../../src/model/run-state';
import { combineNorm } from '../reference/combine-norm';
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
import { describeCase, LAYER, LAYERS, MODES } from './modes';

const ROWS = 3;
/** Rows of a half of the residual stream: more than any pass here has. */
const CAPACITY = 5;
const EPSILON = 1e-5;

const benches = await openBenches();

interface Inputs {
  readonly outputs: Float32Array; // [rows, topK, hidden]
  readonly weights: Float32Array; // [rows, topK]
  readonly residual: Float32Array; // [rows, hidden]
  readonly norm: Float32Array; // [hidden]
}

async function run(
  bench: Bench,
  kernel: CombineNorm,
  { outputs, weights, residual, norm }: Inputs,
  { times = 1, shadow = new Float32Array(0), ...state }: PassState & { times?: number; shadow?: Float32Array } = {},
): Promise<Record<'residual' | 'shadow' | 'x', Float32Array> & { control: number[] }> {
  const hidden = (outputs.length / weights.length) | 0;
  const rows = residual.length / hidden;
  const routeWeights = new Float32Array(LAYERS * weights.length).fill(SENTINEL);
  routeWeights.set(weights, LAYER * weights.length);
  const half = CAPACITY * hidden;
  const halves = new Float32Array(2 * half).fill(SENTINEL);
  halves.set(residual);
  halves.set(shadow, half);
  const b = await bench.place({
    outputs,
    routeWeights,
    residual: halves,
    norm,
    x: new Float32Array(residual.length).fill(SENTINEL),
    control: createControl(state),
  });
  const command = kernel.bind({ ...b, moeLayer: bench.uniform(LAYER), step: bench.uniform(rows, 0) });
  const bytes = await bench.run(
    Array.from({ length: times }, () => [command, rows] as const),
    [b.residual, b.x, b.control],
  );
  const after = new Float32Array(bytes[0]!, 0, 2 * half);
  expectUntouched(after.slice(residual.length, half), 'exact rows that the pass has not');
  expectUntouched(after.slice(half + residual.length), 'shadow rows that the pass has not');
  return {
    residual: after.slice(0, residual.length),
    shadow: after.slice(half, half + residual.length),
    x: new Float32Array(bytes[1]!, 0, residual.length),
    control: [...new Uint32Array(bytes[2]!, 0, CONTROL.nextToken + 1)],
  };
}

function createInputs(hidden: number, topK: number): Inputs {
  const random = createRandom(hidden + topK);
  return {
    outputs: randomFloats(random, ROWS * topK * hidden, 3),
    weights: randomFloats(random, ROWS * topK).map(Math.abs),
    residual: randomFloats(random, ROWS * hidden, 2),
    norm: randomFloats(random, hidden, 2),
  };
}

describe.each(benches)('combine_norm, $name', (bench) => {
  const compile = (
    hiddenSize: number,
    expertsPerToken: number,
    kind: 'rms' | 'layer' = 'rms',
    residualScale = 1,
    isVariable = false,
  ) =>
    bench.compileOnce([hiddenSize, expertsPerToken, kind, residualScale, isVariable], () =>
      compileCombineNorm(bench.device, bench.variant, {
        hiddenSize,
        expertsPerToken,
        norm: { kind, epsilon: EPSILON },
        residualScale,
        rowsCapacity: CAPACITY,
        isVariable,
      }),
    );

  it('scales what the experts add, and norms by mean and deviation with a bias', async () => {
    const [hidden, topK, kind, scale] = [96, 3, 'layer', 0.25] as const;
    const inputs = { ...createInputs(hidden, topK), norm: randomFloats(createRandom(4), 2 * hidden, 2) };
    const got = await run(bench, await compile(hidden, topK, kind, scale), inputs);
    const options = { kind, scale };
    const expected = combineNorm(inputs.outputs, inputs.weights, inputs.residual, inputs.norm, EPSILON, options);
    expectClose(got.residual, expected.residual, 1e-5, 'residual');
    expectClose(got.x, expected.x, 2e-5, 'x');
  });

  it('leaves out the outputs of ranks without an expert, whatever is there', async () => {
    const [hidden, topK] = [96, 3];
    const inputs = createInputs(hidden, topK);
    const outputs = inputs.outputs.slice();
    const weights = inputs.weights.map((weight, at) => (at % topK === 2 || at === 1 ? 0 : weight));
    const expected = combineNorm(outputs, weights, inputs.residual, inputs.norm, EPSILON);
    weights.forEach((weight, at) => {
      if (weight === 0) outputs.fill(Number.NaN, at * hidden, (at + 1) * hidden);
    });
    const got = await run(bench, await compile(hidden, topK, 'rms', 1, true), { ...inputs, outputs, weights });
    expectClose(got.residual, expected.residual, 1e-5, 'residual');
    expectClose(got.x, expected.x, 2e-5, 'x');
  });

  it.each([
    [32, 1],
    [96, 4],
    [260, 8],
    [160, 3],
  ])('hidden size %i, top %i: adds the weighted outputs, normalises, counts one layer', async (hidden, topK) => {
    const inputs = createInputs(hidden, topK);
    const kernel = await compile(hidden, topK);
    const got = await run(bench, kernel, inputs);
    const expected = combineNorm(inputs.outputs, inputs.weights, inputs.residual, inputs.norm, EPSILON);
    expectClose(got.residual, expected.residual, 1e-6 * (2 + topK), 'residual');
    expectClose(got.x, expected.x, 2e-6 * (2 + topK), 'x');
    expect(got.control).toEqual(getControl({}, 1));
    expectUntouched(got.shadow, 'shadow half');
    for (let row = 0; row < ROWS; row++) {
      const alone = await run(bench, kernel, {
        outputs: inputs.outputs.slice(row * topK * hidden, (row + 1) * topK * hidden),
        weights: inputs.weights.slice(row * topK, (row + 1) * topK),
        residual: inputs.residual.slice(row * hidden, (row + 1) * hidden),
        norm: inputs.norm,
      });
      expectSameBits(got.residual.slice(row * hidden, (row + 1) * hidden), alone.residual, `residual of row ${row}`);
      expectSameBits(got.x.slice(row * hidden, (row + 1) * hidden), alone.x, `x of row ${row}`);
    }
  });

  it('sums in router order', async () => {
    const kernel = await compile(32, 3);
    const sumOf = async (...ranks: number[]) => {
      const outputs = new Float32Array(3 * 32);
      ranks.forEach((value, rank) => {
        outputs.fill(value, rank * 32, (rank + 1) * 32);
      });
      const weights = new Float32Array(3).fill(1);
      const { residual } = await run(bench, kernel, {
        outputs,
        weights,
        residual: new Float32Array(32),
        norm: new Float32Array(32).fill(1),
      });
      return residual[31];
    };
    // f32: 2^26 + 1 is 2^26.
    expect(await sumOf(2 ** 26, 1, -(2 ** 26))).toBe(0);
    expect(await sumOf(2 ** 26, -(2 ** 26), 1)).toBe(1);
  });

  it('counts every layer once, whatever the rows', async () => {
    const { control } = await run(bench, await compile(32, 1), createInputs(32, 1), { times: 4 });
    expect(control).toEqual(getControl({}, 4));
  });

  it('goes on in the shadow half behind a fault, beginning from the exact one where the fault is', async () => {
    const inputs = createInputs(96, 4);
    const shadow = randomFloats(createRandom(5), inputs.residual.length, 2);
    const kernel = await compile(96, 4);
    const exact = await run(bench, kernel, inputs);
    const onShadow = await run(bench, kernel, { ...inputs, residual: shadow });
    expect(onShadow.residual).not.toEqual(exact.residual);
    for (const state of MODES) {
      const what = describeCase(state);
      const got = await run(bench, kernel, inputs, { ...state, shadow });
      const isExact = state.experts === 'exact';
      expect(got.control, what).toEqual(getControl(state, isExact ? 1 : 0));
      expectSameBits(got.residual, isExact ? exact.residual : inputs.residual, `exact half, ${what}`);
      const next = state.fault === LAYER ? exact : onShadow;
      expectSameBits(got.shadow, state.experts === 'shadow' ? next.residual : shadow, `shadow half, ${what}`);
      if (state.experts === 'dead') expectUntouched(got.x, `x, ${what}`);
      else expectSameBits(got.x, isExact ? exact.x : next.x, `x, ${what}`);
    }
  });
});

/** The control buffer after so many layers more. */
function getControl(state: PassState, layers: number): number[] {
  const control = createControl(state);
  control[CONTROL.layersExecuted]! += layers;
  return [...control];
}
