import { describe, expect, it } from 'vitest';
import { type CombineNorm, compileCombineNorm } from '../../src/kernels/combine-norm';
import { combineNorm } from '../reference/combine-norm';
import {
  type Bench,
  createRandom,
  expectClose,
  expectSameBits,
  NO_FAULT,
  openBenches,
  randomFloats,
  SENTINEL,
} from './harness';

const LAYERS = 3;
const LAYER = 1;
const ROWS = 3;
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
  { fault = NO_FAULT, times = 1 } = {},
): Promise<{ residual: Float32Array; x: Float32Array; control: number[] }> {
  const rows = residual.length / norm.length;
  const routeWeights = new Float32Array(LAYERS * weights.length).fill(SENTINEL);
  routeWeights.set(weights, LAYER * weights.length);
  const b = await bench.place({
    outputs,
    routeWeights,
    residual,
    norm,
    x: new Float32Array(residual.length).fill(SENTINEL),
    control: Uint32Array.of(fault, 5, 6),
  });
  const command = kernel.bind({ ...b, moeLayer: bench.uniform(LAYER), step: bench.uniform(rows, 0) });
  const bytes = await bench.run(
    Array.from({ length: times }, () => [command, rows] as const),
    [b.residual, b.x, b.control],
  );
  return {
    residual: new Float32Array(bytes[0]!, 0, residual.length),
    x: new Float32Array(bytes[1]!, 0, residual.length),
    control: [...new Uint32Array(bytes[2]!, 0, 3)],
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
  const compile = (hiddenSize: number, expertsPerToken: number) =>
    compileCombineNorm(bench.device, bench.variant, { hiddenSize, expertsPerToken, epsilon: EPSILON });

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
    expect(got.control).toEqual([NO_FAULT, 6, 6]);
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
    expect(control).toEqual([NO_FAULT, 9, 6]);
  });

  it('does nothing at the faulting layer and behind it', async () => {
    const inputs = createInputs(32, 1);
    const kernel = await compile(32, 1);
    for (const fault of [0, LAYER]) {
      const dead = await run(bench, kernel, inputs, { fault });
      expectSameBits(dead.residual, inputs.residual);
      expect(new Set(dead.x)).toEqual(new Set([SENTINEL]));
      expect(dead.control).toEqual([fault, 5, 6]);
    }
    const alive = await run(bench, kernel, inputs, { fault: LAYER + 1 });
    expect(alive.control).toEqual([LAYER + 1, 6, 6]);
  });
});
