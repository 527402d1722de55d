import { describe, expect, it } from 'vitest';
import { compileExpertGateUp, type ExpertGateUp } from '../../src/kernels/expert-gate-up';
import { NO_EXPERT } from '../../src/kernels/router-topk';
import { createMoe } from '../plain-config';
import { expertFactor, expertGateUp } from '../reference/expert-gate-up';
import {
  createPages,
  createPools,
  EXPERT_CASES,
  type ExpertShape,
  getGateUpTolerance,
  layOut,
  layOutRoutes,
  type Pages,
  type Placement,
} from './expert-pages';
import { CLAMPED } from './expert-tiles';
import {
  type Bench,
  createControl,
  createRandom,
  expectClose,
  expectSameBits,
  expectUntouched,
  onGrid,
  openBenches,
  type PassState,
  randomFloats,
  SENTINEL,
} from './harness';
import { describeCase, LAYER, MODES } from './modes';

/** Rows of a half of x: more than any pass here has. */
const CAPACITY = 5;

const benches = await openBenches();

function compile(
  bench: Bench,
  variant: Bench['variant'],
  { type, experts, topK, hidden, width, isClamped = false, isUngated = false, products = 'plain' }: ExpertShape,
  isFactor = false,
) {
  const moe = createMoe({
    experts,
    expertsPerToken: topK,
    expertWidth: width,
    isGated: !isUngated,
    ...(isClamped && { expertBias: true, activation: CLAMPED }),
  });
  const spec = { type, isFactor, moe, hiddenSize: hidden, rowsCapacity: CAPACITY };
  const form = { ...variant, products };
  return bench.compileOnce([form, spec], () => compileExpertGateUp(bench.device, form, spec));
}

async function run(
  bench: Bench,
  kernel: ExpertGateUp,
  shape: ExpertShape,
  input: {
    pages: Pages;
    placement: Placement;
    routes: readonly number[][];
    x: Float32Array;
    /** The shadow half of x. */
    shadow?: Float32Array;
    state?: PassState;
    /** Slot buffers with a dispatch. */
    buffers?: number;
    /** What is there before. */
    act?: Float32Array;
  },
): Promise<Float32Array> {
  const rows = input.routes.length;
  const halves = new Float32Array(2 * CAPACITY * shape.hidden).fill(Number.NaN);
  halves.set(input.x);
  if (input.shadow) halves.set(input.shadow, CAPACITY * shape.hidden);
  const { low, high, ...b } = await bench.place({
    ...layOut(input.pages, input.placement),
    x: halves,
    routeIds: layOutRoutes(input.routes),
    act: input.act ?? new Float32Array(rows * shape.topK * shape.width).fill(SENTINEL),
    control: createControl(input.state),
  });
  const step = bench.uniform(rows, 0);
  const pools = createPools(bench, input.pages, input.placement, low, high).slice(0, input.buffers ?? 2);
  const [bytes] = await bench.run(
    pools.map((pool) => [kernel.bind({ ...b, ...pool, step }), rows]),
    [b.act],
  );
  return new Float32Array(bytes!, 0, rows * shape.topK * shape.width);
}

describe.each(benches)('expert_gate_up, $name', (bench) => {
  it.each(bench.thin(EXPERT_CASES.filter(({ products = 'plain' }) => bench.offers(products))))(
    '$type, $experts experts, top $topK, width $width, no gate $isUngated, products $products',
    async ({ routes, placement, ...shape }) => {
      const { topK, hidden, width } = shape;
      const pages = createPages(shape);
      const random = randomFloats(createRandom(9), routes.length * hidden, 0.5);
      const x = onGrid(random, shape.products ?? 'plain');
      const input = { pages, placement, routes, x };
      const kernel = await compile(bench, bench.variant, shape);
      const act = await run(bench, kernel, shape, input);
      const lowOnly = await run(bench, kernel, shape, { ...input, buffers: 1 });
      routes.forEach((ids, row) => {
        const own = x.subarray(row * hidden, (row + 1) * hidden);
        ids.forEach((id, rank) => {
          const at = (row * topK + rank) * width;
          const got = act.slice(at, at + width);
          const what = `row ${row}, expert ${id}`;
          const slot = placement.slots[id]!;
          const inLow = slot !== null && slot < placement.firstBufferSlots;
          expect(lowOnly.slice(at, at + width).includes(SENTINEL), `${what} left to the other buffer`).toBe(!inLow);
          if (slot === null) {
            expectUntouched(got, `${what}, absent`);
            return;
          }
          const { gate, biases } = pages.experts[id]!;
          const up = shape.isUngated ? null : pages.experts[id]!.up;
          const clamped = shape.isClamped ? { ...CLAMPED, gate: biases.gate, up: biases.up } : undefined;
          const tolerance = shape.isClamped ? 2e-5 : getGateUpTolerance(gate, up, own);
          expectClose(got, expertGateUp(gate, up, own, clamped), tolerance, what);
        });
      });

      // Alone, in other slots, and by other tiles: bit for bit the same.
      const everywhere = {
        slots: placement.slots.map((_, id) => id),
        firstBufferSlots: 1,
        allSlots: shape.experts + 1,
      };
      // The tiles' loop is the same for every type: one type shows it.
      const tiles = bench.variant.tiles === 1 ? 8 : 3;
      const otherTiles =
        shape.type === 'q4_0' && !shape.products ? await compile(bench, { ...bench.variant, tiles }, shape) : kernel;
      const moved = await run(bench, otherTiles, shape, { ...input, placement: everywhere });
      for (const [row, ids] of routes.entries()) {
        const own = x.slice(row * hidden, (row + 1) * hidden);
        const alone = await run(bench, kernel, shape, { ...input, routes: [ids], x: own });
        expectSameBits(act.slice(row * topK * width, (row + 1) * topK * width), alone, `row ${row} alone`);
        for (const [rank, id] of ids.entries()) {
          if (placement.slots[id] === null) continue;
          const at = (row * topK + rank) * width;
          expectSameBits(act.slice(at, at + width), moved.slice(at, at + width), `row ${row}, expert ${id} moved`);
        }
      }
    },
  );

  it('multiplies what is there with the third product, and leaves what has no slot', async () => {
    const { routes, placement, ...shape } = EXPERT_CASES[0]!;
    const { topK, hidden, width } = shape;
    const kernel = await compile(bench, bench.variant, shape, true);
    const pages = createPages(shape);
    const random = createRandom(10);
    const x = randomFloats(random, routes.length * hidden, 0.5);
    const before = randomFloats(random, routes.length * topK * width);
    const act = await run(bench, kernel, shape, { pages, placement, routes, x, act: before });
    for (const [row, ids] of routes.entries()) {
      const own = x.subarray(row * hidden, (row + 1) * hidden);
      for (const [rank, id] of ids.entries()) {
        const at = (row * topK + rank) * width;
        const [got, was] = [act.slice(at, at + width), before.slice(at, at + width)];
        const what = `row ${row}, expert ${id}`;
        if (placement.slots[id] === null) expectSameBits(got, was, `${what}, absent`);
        else expectClose(got, expertFactor(pages.experts[id]!.gate, own, was), 2e-5, what);
      }
    }
  });

  it('leaves the places of fewer experts than a row may have', async () => {
    const { routes: _, placement, ...shape } = EXPERT_CASES[0]!;
    const kernel = await compile(bench, bench.variant, shape);
    const x = randomFloats(createRandom(9), 2 * shape.hidden, 0.5);
    const input = { pages: createPages(shape), placement, x };
    const full = await run(bench, kernel, shape, {
      ...input,
      routes: [
        [4, 0],
        [2, 5],
      ],
    });
    const fewer = await run(bench, kernel, shape, {
      ...input,
      routes: [
        [4, NO_EXPERT],
        [NO_EXPERT, NO_EXPERT],
      ],
    });
    expectSameBits(fewer.slice(0, shape.width), full.slice(0, shape.width), 'the expert that is there');
    expectUntouched(fewer.slice(shape.width), 'the others');
  });

  it('reads its shadow input behind a fault, its exact one where the fault is', async () => {
    const { routes: _, placement, ...shape } = EXPERT_CASES[0]!;
    // Of either buffer, and absent.
    const routes = [
      [2, 3],
      [3, 5],
    ];
    const kernel = await compile(bench, bench.variant, shape);
    const random = createRandom(9);
    const x = randomFloats(random, routes.length * shape.hidden, 0.5);
    const shadow = randomFloats(random, routes.length * shape.hidden, 0.5);
    const input = { pages: createPages(shape), placement, routes, x };
    const exact = await run(bench, kernel, shape, input);
    const onShadow = await run(bench, kernel, shape, { ...input, x: shadow });
    expect(onShadow).not.toEqual(exact);
    expect(exact, 'an absent expert').toContain(SENTINEL);
    for (const state of MODES) {
      const act = await run(bench, kernel, shape, { ...input, shadow, state });
      const what = describeCase(state);
      if (state.experts === 'dead') expectUntouched(act, what);
      else expectSameBits(act, state.fault < LAYER ? onShadow : exact, what);
    }
  });
});
