import { describe, expect, it } from 'vitest';
import { plainRouter, type RouterConfig } from '../../src/checkpoint/model-config';
import { compileRouterTopk } from '../../src/kernels/router-topk';
import { CONTROL } from '../../src/model/run-state';
import { createMoe } from '../plain-config';
import { type RouterShape, routerTopk } from '../reference/router-topk';
import {
  ABSENT,
  type Bench,
  createControl,
  createRandom,
  expectClose,
  expectSameBits,
  expectUntouched,
  openBenches,
  type PassState,
  PROMISED,
  randomFloats,
  SENTINEL,
} from './harness';
import { describeCase, LAYER, LAYERS, MODES } from './modes';

const ROWS = 3;
/** Rows of a half of the residual stream and of x: more than any pass here has. */
const CAPACITY = 5;

const normalize = true;
/** [experts, top k, hidden size, router] */
const SHAPES: readonly [number, number, number, Partial<RouterConfig>][] = [
  [1, 1, 32, {}],
  [5, 1, 36, { normalize }],
  [5, 3, 32, { normalize }],
  [5, 5, 96, {}],
  [32, 2, 64, {}],
  [32, 8, 160, { normalize }],
  [60, 4, 96, {}],
  [60, 7, 32, { normalize }],
  [60, 60, 32, { normalize }],
  [512, 6, 64, {}],
  [512, 8, 32, { normalize }],
  [6, 2, 32, { logitBias: true, normalize }],
  [9, 4, 64, { choiceBias: true, normalize, sumFloor: 1e-12 }],
  [30, 3, 32, { scoring: 'sigmoid', choiceBias: true, normalize, sumEpsilon: 1e-6, scale: 2.5 }],
  [
    24,
    4,
    64,
    { scoring: 'sigmoid', choiceBias: true, logitBias: true, groups: { count: 4, used: 2, rank: 'two-best' } },
  ],
  [18, 3, 32, { groups: { count: 3, used: 2, rank: 'best' }, scale: 16 }],
  [16, 2, 64, { scoring: 'sparsemixer', jitter: 0.2 }],
  [9, 4, 32, { nullExperts: 6, normalize }],
  [7, 5, 36, { nullExperts: 1, normalize }],
  [13, 6, 64, { topP: 0.45 }],
  [5, 3, 32, { topP: 0.4 }],
  [14, 14, 32, { scoring: 'relu', scoreNorm: 1e-5 }],
  [11, 11, 64, { scoring: 'relu', normalize, sumEpsilon: 1e-5 }],
  [9, 3, 64, { stateWidth: 32, normalize }],
  [6, 2, 32, { stateWidth: 96, logitBias: true }],
];

const benches = await openBenches();

interface Inputs {
  readonly gate: Float32Array;
  readonly residual: Float32Array;
  /** Of a recurrent router. */
  readonly states: Float32Array;
}

const RMS = { kind: 'rms', epsilon: 1e-5 } as const;

function createInputs({ hidden, experts, norm, router }: RouterShape): Inputs {
  const random = createRandom(experts + hidden);
  const vectors = [router.logitBias, router.choiceBias, router.scoreNorm].filter(Boolean).length;
  const words =
    (norm.kind === 'layer' ? 2 : 1) * hidden +
    (experts + (router.nullExperts ?? 0)) * (router.stateWidth ?? hidden) +
    vectors * Math.ceil(experts / 4) * 4;
  const states = randomFloats(random, ROWS * (router.stateWidth ?? 4), 2);
  return { gate: randomFloats(random, words), residual: randomFloats(random, ROWS * hidden, 3), states };
}

function compile(bench: Bench, shape: RouterShape) {
  return bench.compileOnce(shape, () =>
    compileRouterTopk(bench.device, bench.variant, {
      moe: createMoe({
        experts: shape.experts,
        expertsPerToken: shape.topK,
        expertWidth: 32,
        router: { ...plainRouter, ...shape.router },
      }),
      hiddenSize: shape.hidden,
      norm: shape.norm,
      rowsCapacity: CAPACITY,
      input: shape.input ?? 'norm',
    }),
  );
}

async function run(
  bench: Bench,
  kernel: Awaited<ReturnType<typeof compile>>,
  { hidden, experts, topK }: RouterShape,
  { gate, residual, states: own }: Inputs,
  {
    absent = [],
    isPromised = false,
    shadow = new Float32Array(0),
    ...state
  }: PassState & { absent?: readonly number[]; isPromised?: boolean; shadow?: Float32Array } = {},
) {
  const rows = residual.length / hidden;
  const half = CAPACITY * hidden;
  const halves = new Float32Array(2 * half).fill(SENTINEL);
  halves.set(residual);
  halves.set(shadow, half);
  // Only this layer's part of the page table says where pages are.
  const pageTable = new Uint32Array(LAYERS * experts).fill(ABSENT);
  for (let expert = 0; expert < experts; expert++) {
    pageTable[LAYER * experts + expert] = !absent.includes(expert)
      ? experts - 1 - expert
      : isPromised
        ? PROMISED
        : ABSENT;
  }
  const routes = LAYERS * rows * topK;
  // Those of other layers would score otherwise.
  const states = new Float32Array(LAYERS * own.length).fill(SENTINEL);
  states.set(own, LAYER * own.length);
  const b = await bench.place({
    gate,
    residual: halves,
    pageTable,
    control: createControl(state),
    x: new Float32Array(2 * half).fill(SENTINEL),
    routeIds: new Uint32Array(routes).fill(777),
    routeWeights: new Float32Array(routes).fill(SENTINEL),
    states,
  });
  const command = kernel.bind({ ...b, moeLayer: bench.uniform(LAYER), step: bench.uniform(rows, 0) });
  const bytes = await bench.run([[command, rows]], [b.control, b.x, b.routeIds, b.routeWeights, b.residual]);
  const streams = new Float32Array(bytes[4]!, 0, 2 * half);
  const x = new Float32Array(bytes[1]!, 0, 2 * half);
  expectUntouched(x.slice(rows * hidden, half), 'rows of x that the pass has not');
  expectUntouched(x.slice(half + rows * hidden), 'rows of the shadow x that the pass has not');
  return {
    control: [...new Uint32Array(bytes[0]!, 0, CONTROL.nextToken + 1)],
    stream: streams.slice(0, rows * hidden),
    shadowStream: streams.slice(half, half + rows * hidden),
    x: x.slice(0, rows * hidden),
    shadowX: x.slice(half, half + rows * hidden),
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
  it.each(bench.thin(SHAPES))(
    '%i experts, top %i, hidden size %i, router %j: routes, weights and no fault',
    async (...of) => {
      const [experts, topK, hidden, router] = of;
      // The router with biases also has a LayerNorm.
      const kind = router.logitBias ? 'layer' : 'rms';
      const shape: RouterShape = { experts, topK, hidden, router, norm: { kind, epsilon: 1e-5 } };
      const inputs = createInputs(shape);
      const reference = routerTopk(shape, inputs.gate, inputs.residual, router.stateWidth ? inputs.states : null);
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
        reference.x.map((value) => (kind === 'layer' ? 1e-5 : Math.abs(value) * 2e-6)),
        'x',
      );
      const weights = reference.weights.flat();
      const own = Float32Array.from(ofLayer([...got.weights], SENTINEL));
      expectClose(
        own,
        weights,
        weights.map((value) => Math.abs(value) * 2e-5),
        'weights',
      );
      expect(got.control, 'a page that no row needs may be absent').toEqual([...createControl()]);
      expectUntouched(got.shadowX, 'shadow half of x');

      for (let row = 0; row < ROWS; row++) {
        const residual = inputs.residual.slice(row * hidden, (row + 1) * hidden);
        const width = router.stateWidth ?? 4;
        const states = inputs.states.slice(row * width, (row + 1) * width);
        const alone = await run(bench, kernel, shape, { gate: inputs.gate, residual, states });
        expectSameBits(got.x.slice(row * hidden, (row + 1) * hidden), alone.x, `x of row ${row}`);
        const aloneWeights = Float32Array.from(ofLayer([...alone.weights], SENTINEL));
        expectSameBits(own.slice(row * topK, (row + 1) * topK), aloneWeights, `weights of row ${row}`);
      }

      // One row's last choice is missing: the fault names the layer, and the routes are there all the same.
      const missing = reference.ids[ROWS - 1]!.findLast((id) => id < experts)!;
      const faulted = await run(bench, kernel, shape, inputs, { absent: [missing] });
      expect(faulted.control).toEqual([...createControl({ fault: LAYER })]);
      expect(faulted.ids).toEqual(got.ids);
      expectSameBits(faulted.weights, got.weights, 'weights despite the fault');

      const promised = await run(bench, kernel, shape, inputs, { absent: [missing], isPromised: true });
      expect(promised.control, 'another wave has it').toEqual([...createControl()]);
      expect(promised.ids).toEqual(got.ids);

      const drafted = await run(bench, kernel, shape, inputs, { absent: [missing], isDraft: true });
      expect(drafted.control, 'a draft raises no fault').toEqual([...createControl({ isDraft: true })]);
      expect(drafted.ids).toEqual(got.ids);
      expectSameBits(drafted.x, got.x, 'x in a draft');
      expectSameBits(drafted.weights, got.weights, 'weights in a draft');
    },
  );

  it('gives equal logits to the lower id', async () => {
    // Router rows that pick one element of x: their logits are exact, so equal ones are equal on every adapter.
    const shape: RouterShape = { experts: 60, topK: 8, hidden: 32, router: {}, norm: RMS };
    const gate = new Float32Array(61 * 32).fill(1, 0, 32);
    const picks = Array.from({ length: 60 }, (_, expert) => [3, 7, 7, 9][expert % 4]!);
    for (const [expert, pick] of picks.entries()) gate[(1 + expert) * 32 + pick] = 1;
    const residual = new Float32Array(2 * 32).fill(1);
    residual[7] = 4;
    residual.fill(0, 32);
    const kernel = await compile(bench, shape);
    const { ids, weights } = await run(bench, kernel, shape, { gate, residual, states: new Float32Array(8) });
    expect(ofLayer(ids, 777)).toEqual([1, 2, 5, 6, 9, 10, 13, 14, 0, 1, 2, 3, 4, 5, 6, 7]);
    const own = ofLayer([...weights], SENTINEL);
    expect(new Set(own.slice(0, 8)).size).toBe(1);
    expectClose(Float32Array.from(own.slice(8)), new Array(8).fill(1 / 60), 1e-7);
  });

  it('behind a fault routes the shadow, from the exact residual stream at depth 1, and raises nothing', async () => {
    const shape: RouterShape = { experts: 60, topK: 4, hidden: 96, router: {}, norm: RMS };
    const inputs = createInputs(shape);
    const shadow = randomFloats(createRandom(5), inputs.residual.length, 3);
    const kernel = await compile(bench, shape);
    const exact = await run(bench, kernel, shape, inputs);
    const onShadow = await run(bench, kernel, shape, { ...inputs, residual: shadow });
    expect(onShadow.ids).not.toEqual(exact.ids);
    const everyPage = Array.from({ length: shape.experts }, (_, expert) => expert);
    for (const state of MODES) {
      const what = describeCase(state);
      const got = await run(bench, kernel, shape, inputs, { ...state, absent: everyPage, shadow });
      // An exact router finds pages missing; it lowers a fault behind it, and no other.
      const fault = state.router === 'exact' ? Math.min(state.fault, LAYER) : state.fault;
      expect(got.control, what).toEqual([...createControl({ ...state, fault })]);
      if (state.router === 'exact') expectSameBits(got.x, exact.x, `x, ${what}`);
      else expectUntouched(got.x, `exact half of x, ${what}`);
      const next = state.runAhead === 1 ? exact : onShadow;
      if (state.router === 'shadow') expectSameBits(got.shadowX, next.x, `shadow half of x, ${what}`);
      else expectUntouched(got.shadowX, `shadow half of x, ${what}`);
      if (state.router === 'dead') {
        expectUntouched(got.weights, `weights, ${what}`);
        expectUntouched(Uint32Array.from(got.ids), `ids, ${what}`);
      } else {
        const routed = state.router === 'exact' ? exact : next;
        expect(got.ids, what).toEqual(routed.ids);
        expectSameBits(got.weights, routed.weights, `weights, ${what}`);
      }
    }
  });

  it('of a first round makes the stream its norm, but no stream that a shadow only looks at', async () => {
    const plain: RouterShape = { experts: 9, topK: 3, hidden: 36, router: {}, norm: RMS };
    const shape: RouterShape = { ...plain, input: 'normed-stream' };
    const inputs = createInputs(shape);
    const shadow = randomFloats(createRandom(5), inputs.residual.length, 3);
    const [kernel, norming] = [await compile(bench, shape), await compile(bench, plain)];
    const exact = await run(bench, norming, plain, inputs);
    const onShadow = await run(bench, norming, plain, { ...inputs, residual: shadow });
    expectSameBits(exact.stream, inputs.residual, 'a router by itself leaves the stream');
    for (const state of MODES) {
      const what = describeCase(state);
      const got = await run(bench, kernel, shape, inputs, { ...state, shadow });
      const isExact = state.router === 'exact';
      expectSameBits(got.stream, isExact ? exact.x : inputs.residual, `exact stream, ${what}`);
      const isShadow = state.router === 'shadow' && state.runAhead > 1;
      expectSameBits(got.shadowStream, isShadow ? onShadow.x : shadow, `shadow stream, ${what}`);
      if (isExact) expect(got.ids, what).toEqual(exact.ids);
    }
  });

  it('of a later round takes the stream as it is', async () => {
    const shape: RouterShape = { experts: 9, topK: 3, hidden: 36, router: {}, norm: RMS, input: 'stream' };
    const inputs = createInputs(shape);
    const reference = routerTopk(shape, inputs.gate, inputs.residual);
    expect(Math.min(...reference.margins)).toBeGreaterThan(2e-5);
    const got = await run(bench, await compile(bench, shape), shape, inputs);
    expectSameBits(got.x, inputs.residual, 'x');
    expectSameBits(got.stream, inputs.residual, 'stream');
    expect(ofLayer(got.ids, 777)).toEqual(reference.ids.flat());
  });
});
