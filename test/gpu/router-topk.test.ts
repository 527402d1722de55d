import { describe, expect, it } from 'vitest';
import { compileRouterTopk } from '../../src/kernels/router-topk';
import { type RouterShape, routerTopk } from '../reference/router-topk';
import {
  ABSENT,
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

/** [experts, top k, hidden size, normalise] */
const SHAPES: readonly [number, number, number, boolean][] = [
  [1, 1, 32, false],
  [5, 1, 36, true],
  [5, 3, 32, true],
  [5, 5, 96, false],
  [32, 2, 64, false],
  [32, 8, 160, true],
  [60, 4, 96, false],
  [60, 7, 32, true],
  [60, 60, 32, true],
  [512, 6, 64, false],
  [512, 8, 32, true],
];

const benches = await openBenches();

interface Inputs {
  readonly gate: Float32Array;
  readonly residual: Float32Array;
}

function createInputs({ hidden, experts }: RouterShape): Inputs {
  const random = createRandom(experts + hidden);
  return { gate: randomFloats(random, (1 + experts) * hidden), residual: randomFloats(random, ROWS * hidden, 3) };
}

function compile(bench: Bench, shape: RouterShape) {
  return compileRouterTopk(bench.device, bench.variant, {
    moe: { experts: shape.experts, expertsPerToken: shape.topK, expertWidth: 32, normalizeTopK: shape.normalize },
    hiddenSize: shape.hidden,
    epsilon: shape.epsilon,
  });
}

async function run(
  bench: Bench,
  kernel: Awaited<ReturnType<typeof compile>>,
  { hidden, experts, topK }: RouterShape,
  { gate, residual }: Inputs,
  { absent = [] as readonly number[], fault = NO_FAULT } = {},
) {
  const rows = residual.length / hidden;
  // Only this layer's part of the page table says where pages are.
  const pageTable = new Uint32Array(LAYERS * experts).fill(ABSENT);
  for (let expert = 0; expert < experts; expert++) {
    if (!absent.includes(expert)) pageTable[LAYER * experts + expert] = experts - 1 - expert;
  }
  const routes = LAYERS * rows * topK;
  const b = await bench.place({
    gate,
    residual,
    pageTable,
    control: Uint32Array.of(fault, 5, 6),
    x: new Float32Array(rows * hidden).fill(SENTINEL),
    routeIds: new Uint32Array(routes).fill(777),
    routeWeights: new Float32Array(routes).fill(SENTINEL),
  });
  const command = kernel.bind({ ...b, moeLayer: bench.uniform(LAYER), step: bench.uniform(rows, 0) });
  const bytes = await bench.run([[command, rows]], [b.control, b.x, b.routeIds, b.routeWeights]);
  return {
    control: [...new Uint32Array(bytes[0]!, 0, 3)],
    x: new Float32Array(bytes[1]!, 0, rows * hidden),
    ids: [...new Uint32Array(bytes[2]!, 0, routes)],
    weights: new Float32Array(bytes[3]!, 0, routes),
  };
}

/** This layer's part of a result, with the check that the other layers' parts are untouched. */
function ofLayer(values: readonly number[], sentinel: number): number[] {
  const size = values.length / LAYERS;
  const own = values.slice(LAYER * size, (LAYER + 1) * size);
  const others = [...values.slice(0, LAYER * size), ...values.slice((LAYER + 1) * size)];
  expect(
    others.every((value) => value === sentinel),
    'other layers untouched',
  ).toBe(true);
  return own;
}

describe.each(benches)('router_topk, $name', (bench) => {
  it.each(SHAPES)('%i experts, top %i, hidden size %i, normalise %s: routes, weights and no fault', async (...of) => {
    const [experts, topK, hidden, normalize] = of;
    const shape: RouterShape = { experts, topK, hidden, normalize, epsilon: 1e-5 };
    const inputs = createInputs(shape);
    const reference = routerTopk(shape, inputs.gate, inputs.residual);
    // Else the order of f32 sums, not the kernel, would decide: choose another seed.
    expect(Math.min(...reference.margins)).toBeGreaterThan(2e-5);
    const chosen = new Set(reference.ids.flat());
    const absent = Array.from({ length: experts }, (_, expert) => expert).filter((expert) => !chosen.has(expert));

    const kernel = await compile(bench, shape);
    const got = await run(bench, kernel, shape, inputs, { absent });
    expect(ofLayer(got.ids, 777)).toEqual(reference.ids.flat());
    expectClose(
      got.x,
      reference.x,
      reference.x.map((value) => Math.abs(value) * 2e-6),
      'x',
    );
    const weights = reference.weights.flat();
    const own = Float32Array.from(ofLayer([...got.weights], SENTINEL));
    expectClose(
      own,
      weights,
      weights.map((value) => value * 2e-5),
      'weights',
    );
    expect(got.control, 'a page that no row needs may be absent').toEqual([NO_FAULT, 5, 6]);

    for (let row = 0; row < ROWS; row++) {
      const residual = inputs.residual.slice(row * hidden, (row + 1) * hidden);
      const alone = await run(bench, kernel, shape, { ...inputs, residual });
      expectSameBits(got.x.slice(row * hidden, (row + 1) * hidden), alone.x, `x of row ${row}`);
      const aloneWeights = Float32Array.from(ofLayer([...alone.weights], SENTINEL));
      expectSameBits(own.slice(row * topK, (row + 1) * topK), aloneWeights, `weights of row ${row}`);
    }

    // One row's last choice is missing: the fault names the layer, and the routes are there all the same.
    const missing = reference.ids[ROWS - 1]![topK - 1]!;
    const faulted = await run(bench, kernel, shape, inputs, { absent: [missing] });
    expect(faulted.control).toEqual([LAYER, 5, 6]);
    expect(faulted.ids).toEqual(got.ids);
    expectSameBits(faulted.weights, got.weights, 'weights despite the fault');
  });

  it('gives equal logits to the lower id', async () => {
    // Router rows that pick one element of x: their logits are exact, so equal ones are equal on every adapter.
    const shape: RouterShape = { experts: 60, topK: 8, hidden: 32, normalize: false, epsilon: 1e-5 };
    const gate = new Float32Array(61 * 32).fill(1, 0, 32);
    const picks = Array.from({ length: 60 }, (_, expert) => [3, 7, 7, 9][expert % 4]!);
    for (const [expert, pick] of picks.entries()) gate[(1 + expert) * 32 + pick] = 1;
    const residual = new Float32Array(2 * 32).fill(1);
    residual[7] = 4;
    residual.fill(0, 32);
    const kernel = await compile(bench, shape);
    const { ids, weights } = await run(bench, kernel, shape, { gate, residual });
    expect(ofLayer(ids, 777)).toEqual([1, 2, 5, 6, 9, 10, 13, 14, 0, 1, 2, 3, 4, 5, 6, 7]);
    const own = ofLayer([...weights], SENTINEL);
    expect(new Set(own.slice(0, 8)).size).toBe(1);
    expectClose(Float32Array.from(own.slice(8)), new Array(8).fill(1 / 60), 1e-7);
  });

  it('does nothing behind a fault, and works on at the faulting layer', async () => {
    const shape: RouterShape = { experts: 5, topK: 3, hidden: 32, normalize: true, epsilon: 1e-5 };
    const inputs = createInputs(shape);
    const kernel = await compile(bench, shape);
    const dead = await run(bench, kernel, shape, inputs, { absent: [0, 1, 2, 3, 4], fault: LAYER - 1 });
    expect(dead.control).toEqual([LAYER - 1, 5, 6]);
    expect(new Set([...dead.x, ...dead.weights])).toEqual(new Set([SENTINEL]));
    expect(new Set(dead.ids)).toEqual(new Set([777]));
    const resumed = await run(bench, kernel, shape, inputs, { fault: LAYER });
    expect(resumed.control[0]).toBe(LAYER);
    expect(ofLayer(resumed.ids, 777)).toEqual(routerTopk(shape, inputs.gate, inputs.residual).ids.flat());
  });
});
