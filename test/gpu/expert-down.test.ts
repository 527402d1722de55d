import { describe, expect, it } from 'vitest';
import { compileExpertDown, type ExpertDown } from '../../src/kernels/expert-down';
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
  type Bench,
  createRandom,
  expectClose,
  expectSameBits,
  NO_FAULT,
  openBenches,
  randomFloats,
  SENTINEL,
} from './harness';

const benches = await openBenches();

function compile(bench: Bench, variant: Bench['variant'], { type, experts, topK, hidden, width }: ExpertShape) {
  const moe = { experts, expertsPerToken: topK, expertWidth: width, normalizeTopK: false };
  return compileExpertDown(bench.device, variant, { type, moe, hiddenSize: hidden });
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
    fault?: number;
    buffers?: number;
  },
): Promise<Float32Array> {
  const rows = input.routes.length;
  const { low, high, ...b } = await bench.place({
    ...layOut(input.pages, input.placement),
    act: input.act,
    routeIds: layOutRoutes(input.routes),
    outputs: new Float32Array(rows * shape.topK * shape.hidden).fill(SENTINEL),
    control: Uint32Array.of(input.fault ?? NO_FAULT, 0, 0),
  });
  const step = bench.uniform(rows, 0);
  const pools = createPools(bench, input.pages, input.placement, low, high).slice(0, input.buffers ?? 2);
  const [bytes] = await bench.run(
    pools.map((pool) => [kernel.bind({ ...b, ...pool, step }), rows]),
    [b.outputs],
  );
  return new Float32Array(bytes!, 0, rows * shape.topK * shape.hidden);
}

describe.each(benches)('expert_down, $name', (bench) => {
  it.each(EXPERT_CASES)('$type, $experts experts, top $topK, width $width', async ({ routes, placement, ...shape }) => {
    const { topK, hidden, width } = shape;
    const pages = createPages(shape);
    const act = randomFloats(createRandom(9), routes.length * topK * width);
    const input = { pages, placement, routes, act };
    const kernel = await compile(bench, bench.variant, shape);
    const outputs = await run(bench, kernel, shape, input);
    const lowOnly = await run(bench, kernel, shape, { ...input, buffers: 1 });
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
          expect(new Set(got), `${what} is absent`).toEqual(new Set([SENTINEL]));
          return;
        }
        const own = act.subarray(choice * width, (choice + 1) * width);
        const { down } = pages.experts[id]!;
        const magnitude = expertDown(down.map(Math.abs), own.map(Math.abs));
        expectClose(
          got,
          expertDown(down, own),
          magnitude.map((sum) => (width + 8) * 2 ** -24 * sum + 1e-30),
          what,
        );
      });
    });

    // Alone, in other slots, and by other tiles: bit for bit the same.
    const everywhere = { slots: placement.slots.map((_, id) => id), firstBufferSlots: 1, allSlots: shape.experts + 1 };
    // The tiles' loop is the same for every type: one type shows it.
    const tiles = bench.variant.tiles === 1 ? 8 : 3;
    const otherTiles = shape.type === 'q4_0' ? await compile(bench, { ...bench.variant, tiles }, shape) : kernel;
    const moved = await run(bench, otherTiles, shape, { ...input, placement: everywhere });
    for (const [row, ids] of routes.entries()) {
      const own = act.slice(row * topK * width, (row + 1) * topK * width);
      const alone = await run(bench, kernel, shape, { ...input, routes: [ids], act: own });
      expectSameBits(outputs.slice(row * topK * hidden, (row + 1) * topK * hidden), alone, `row ${row} alone`);
      for (const [rank, id] of ids.entries()) {
        if (placement.slots[id] === null) continue;
        const at = (row * topK + rank) * hidden;
        expectSameBits(outputs.slice(at, at + hidden), moved.slice(at, at + hidden), `row ${row}, expert ${id} moved`);
      }
    }
  });

  it('does nothing at the faulting layer and behind it', async () => {
    const { routes, placement, ...shape } = EXPERT_CASES.at(-1)!;
    const kernel = await compile(bench, bench.variant, shape);
    const input = { pages: createPages(shape), placement, routes, act: randomFloats(createRandom(9), shape.width) };
    for (const fault of [0, 1]) {
      expect(new Set(await run(bench, kernel, shape, { ...input, fault }))).toEqual(new Set([SENTINEL]));
    }
    expect(await run(bench, kernel, shape, { ...input, fault: 2 })).not.toContain(SENTINEL);
  });
});
