import { describe, expect, it } from 'vitest';
import { compileExpertDown, type ExpertDown } from '../../src/kernels/expert-down';
import { NO_EXPERT } from '../../src/kernels/router-topk';
import { createMoe } from '../plain-config';
import { expertDown } from '../reference/expert-down';
import {
  createPages,
  createPools,
  EXPERT_CASES,
  type ExpertShape,
  layOut,
  layOutRoutes,
  type Pages,
  type Placement,
} from './expert-pages';
import {
  type ABSENT,
  type Bench,
  createControl,
  createRandom,
  expectClose,
  expectSameBits,
  expectUntouched,
  onGrid,
  openBenches,
  type PassState,
  PROMISED,
  randomFloats,
  SENTINEL,
} from './harness';
import { describeCase, LAYER, MODES } from './modes';

const benches = await openBenches();

function compile(
  bench: Bench,
  variant: Bench['variant'],
  { type, experts, topK, hidden, width, isClamped = false, products = 'plain' }: ExpertShape,
) {
  const moe = createMoe({ experts, expertsPerToken: topK, expertWidth: width, expertBias: isClamped });
  const spec = { type, moe, hiddenSize: hidden };
  const form = { ...variant, products };
  return bench.compileOnce([form, spec], () => compileExpertDown(bench.device, form, spec));
}

async function run(
  bench: Bench,
  kernel: ExpertDown,
  shape: ExpertShape,
  input: {
    pages: Pages;
    placement: Placement;
    routes: readonly number[][];
    act: Float32Array;
    state?: PassState;
    /** Slot buffers with a dispatch, in its order. */
    buffers?: readonly number[];
    /** The page table's word for what has no slot. */
    absent?: typeof ABSENT | typeof PROMISED;
  },
): Promise<Float32Array> {
  const rows = input.routes.length;
  const { low, high, ...b } = await bench.place({
    ...layOut(input.pages, input.placement, input.absent),
    act: input.act,
    routeIds: layOutRoutes(input.routes),
    outputs: new Float32Array(rows * shape.topK * shape.hidden).fill(SENTINEL),
    control: createControl(input.state),
  });
  const step = bench.uniform(rows, 0);
  const pools = createPools(bench, input.pages, input.placement, low, high);
  const [bytes] = await bench.run(
    (input.buffers ?? [0, 1]).map((buffer) => [kernel.bind({ ...b, ...pools[buffer]!, step }), rows]),
    [b.outputs],
  );
  return new Float32Array(bytes!, 0, rows * shape.topK * shape.hidden);
}

describe.each(benches)('expert_down, $name', (bench) => {
  it.each(bench.thin(EXPERT_CASES.filter(({ products = 'plain' }) => bench.offers(products))))(
    '$type, $experts experts, top $topK, width $width, products $products',
    async ({ routes, placement, ...shape }) => {
      const { topK, hidden, width } = shape;
      const pages = createPages(shape);
      const random = randomFloats(createRandom(9), routes.length * topK * width);
      const act = onGrid(random, shape.products ?? 'plain');
      const input = { pages, placement, routes, act };
      const kernel = await compile(bench, bench.variant, shape);
      const outputs = await run(bench, kernel, shape, input);
      const lowOnly = await run(bench, kernel, shape, { ...input, buffers: [0] });
      routes.forEach((ids, row) => {
        ids.forEach((id, rank) => {
          const choice = row * topK + rank;
          const at = choice * hidden;
          const got = outputs.slice(at, at + hidden);
          const what = `row ${row}, expert ${id}`;
          const slot = placement.slots[id]!;
          const inLow = slot !== null && slot < placement.firstBufferSlots;
          expect(lowOnly.slice(at, at + hidden).includes(SENTINEL), `${what} left to the other buffer`).toBe(!inLow);
          if (slot === null) {
            expectUntouched(got, `${what}, absent`);
            return;
          }
          const own = act.subarray(choice * width, (choice + 1) * width);
          const { down, biases } = pages.experts[id]!;
          const magnitude = expertDown(down.map(Math.abs), own.map(Math.abs));
          expectClose(
            got,
            expertDown(down, own).map((sum, i) => sum + biases.down[i]!),
            magnitude.map((sum) => (width + 8) * 2 ** -24 * sum + (shape.isClamped ? 1e-6 : 1e-30)),
            what,
          );
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
        const own = act.slice(row * topK * width, (row + 1) * topK * width);
        const alone = await run(bench, kernel, shape, { ...input, routes: [ids], act: own });
        expectSameBits(outputs.slice(row * topK * hidden, (row + 1) * topK * hidden), alone, `row ${row} alone`);
        for (const [rank, id] of ids.entries()) {
          if (placement.slots[id] === null) continue;
          const at = (row * topK + rank) * hidden;
          expectSameBits(
            outputs.slice(at, at + hidden),
            moved.slice(at, at + hidden),
            `row ${row}, expert ${id} moved`,
          );
        }
      }
    },
  );

  it('leaves the places of fewer experts than a row may have', async () => {
    const { routes: _, placement, ...shape } = EXPERT_CASES[0]!;
    const kernel = await compile(bench, bench.variant, shape);
    const act = randomFloats(createRandom(9), 2 * shape.width);
    const input = { pages: createPages(shape), placement, act };
    const full = await run(bench, kernel, shape, { ...input, routes: [[4, 0]] });
    const fewer = await run(bench, kernel, shape, { ...input, routes: [[4, NO_EXPERT]], state: { isDraft: true } });
    expectSameBits(fewer.slice(0, shape.hidden), full.slice(0, shape.hidden), 'the expert that is there');
    expectUntouched(fewer.slice(shape.hidden), 'the other');
  });

  it('in shadow and in a draft makes zeros of absent experts, once for all slot buffers, and the rest as ever', async () => {
    const { routes: _, placement, ...shape } = EXPERT_CASES[0]!;
    // Of either buffer, and absent.
    const routes = [
      [2, 3],
      [3, 5],
    ];
    const { topK, hidden } = shape;
    const kernel = await compile(bench, bench.variant, shape);
    const act = randomFloats(createRandom(9), routes.length * topK * shape.width);
    const input = { pages: createPages(shape), placement, routes, act };
    const exact = await run(bench, kernel, shape, input);
    /** What the dispatches for these buffers leave: results, zeros for absent experts where told, the rest untouched. */
    const expected = (buffers: readonly number[], zeros: boolean): Float32Array => {
      const outputs = new Float32Array(exact.length).fill(SENTINEL);
      routes.flat().forEach((id, choice) => {
        const [from, to] = [choice * hidden, (choice + 1) * hidden];
        const slot = placement.slots[id]!;
        if (slot === null) outputs.fill(zeros ? 0 : SENTINEL, from, to);
        else if (buffers.includes(slot < placement.firstBufferSlots ? 0 : 1))
          outputs.set(exact.subarray(from, to), from);
      });
      return outputs;
    };
    expect(expected([0, 1], true)).toContain(0);
    for (const state of MODES) {
      const what = describeCase(state);
      const outputs = await run(bench, kernel, shape, { ...input, state });
      if (state.experts === 'dead') expectUntouched(outputs, what);
      else expectSameBits(outputs, expected([0, 1], state.experts === 'shadow'), what);
    }
    for (const state of [{ fault: LAYER, runAhead: 2 }, { isDraft: true }]) {
      for (const buffers of [[0], [1], [1, 0]]) {
        const outputs = await run(bench, kernel, shape, { ...input, state, buffers });
        expectSameBits(outputs, expected(buffers, buffers.includes(0)), `dispatches for buffers ${buffers}`);
        // What another wave makes is neither made nor cleared.
        const promised = await run(bench, kernel, shape, { ...input, state, buffers, absent: PROMISED });
        expectSameBits(promised, expected(buffers, false), `promised, dispatches for buffers ${buffers}`);
      }
    }
  });

  it('in shadow leaves nothing of what was there when no expert at all is resident', async () => {
    const { routes, placement, ...shape } = EXPERT_CASES[5]!;
    const kernel = await compile(bench, bench.variant, shape);
    const act = randomFloats(createRandom(9), routes.length * shape.topK * shape.width);
    const nowhere = { ...placement, slots: placement.slots.map(() => null) };
    const input = { pages: createPages(shape), placement: nowhere, routes, act };
    const shadow = await run(bench, kernel, shape, { ...input, state: { fault: LAYER - 1, runAhead: 3 } });
    expectSameBits(shadow, new Float32Array(shadow.length));
    expectUntouched(await run(bench, kernel, shape, input), 'exact');
  });
});
