import { describe, it } from 'vitest';
import { compileExpertGateUpTiled } from '../../src/kernels/expert-gate-up-tiled';
import { expertFactor, expertGateUp } from '../reference/expert-gate-up';
import { createPages, type ExpertShape, getGateUpTolerance, type Placement } from './expert-pages';
import { CLAMPED, createRoutes, ELSEWHERE, getTiledSpec, PLACEMENT, runTiled, TILED_SHAPES } from './expert-tiles';
import {
  createRandom,
  expectClose,
  expectSameBits,
  expectUntouched,
  openBenches,
  randomFloats,
  SENTINEL,
} from './harness';

const ROWS = 41;

const benches = await openBenches({ isTiled: true });

describe.each(benches)('expert_gate_up_tiled, $name', (bench) => {
  async function run(
    shape: ExpertShape,
    placement: Placement,
    routes: readonly number[][],
    x: Float32Array,
    buffers?: number,
    before?: Float32Array,
  ): Promise<Float32Array> {
    const spec = { ...getTiledSpec(shape), isFactor: before !== undefined };
    const kernel = await bench.compileOnce(spec, () => compileExpertGateUpTiled(bench.device, bench.variant, spec));
    const result = before ?? new Float32Array(routes.length * shape.topK * shape.width).fill(SENTINEL);
    const input = { pages: createPages(shape), placement, routes, ...(buffers ? { buffers } : {}) };
    return runTiled<'x'>(bench, shape, input, { x, result }, (b, pool) =>
      kernel.bind({ ...b, ...pool, act: b.result }),
    );
  }

  it.each(bench.thin(TILED_SHAPES))(
    '$type, biases $isClamped, no gate $isUngated: every choice by its expert, wherever that lies and whoever else chose it',
    async (shape) => {
      const { topK, hidden, width } = shape;
      const routes = createRoutes(ROWS);
      const x = randomFloats(createRandom(9), ROWS * hidden, 0.5);
      const { experts } = createPages(shape);
      const act = await run(shape, PLACEMENT, routes, x);
      const moved = await run(shape, ELSEWHERE, routes, x);
      const lowOnly = await run(shape, PLACEMENT, routes, x, 1);
      const few = await run(shape, PLACEMENT, routes.slice(0, 3), x.slice(0, 3 * hidden));
      expectSameBits(act.slice(0, few.length), few, 'three rows alone');
      routes.forEach((ids, row) => {
        const own = bench.roundRows(x.subarray(row * hidden, (row + 1) * hidden), hidden);
        ids.forEach((id, rank) => {
          const at = (row * topK + rank) * width;
          const what = `row ${row}, expert ${id}`;
          const got = act.slice(at, at + width);
          const slot = PLACEMENT.slots[id]!;
          const { biases } = experts[id]!;
          if (slot === null) expectUntouched(got, `${what}, absent`);
          else {
            if (row % 5 === 0) {
              const gate = bench.roundWeights(experts[id]!.gate);
              const up = shape.isUngated ? null : bench.roundWeights(experts[id]!.up);
              const clamped = shape.isClamped ? { ...CLAMPED, gate: biases.gate, up: biases.up } : undefined;
              const tolerance = shape.isClamped ? 2e-5 : getGateUpTolerance(gate, up, own);
              expectClose(got, expertGateUp(gate, up, own, clamped), tolerance, what);
            }
            expectSameBits(got, moved.slice(at, at + width), `${what}, moved`);
          }
          const isLow = slot !== null && slot < PLACEMENT.firstBufferSlots;
          if (isLow) expectSameBits(lowOnly.slice(at, at + width), got, `${what}, first buffer alone`);
          else expectUntouched(lowOnly.slice(at, at + width), `${what}, left to the other buffer`);
        });
      });
    },
  );

  it('multiplies what is there with the third product, and leaves what has no slot', async () => {
    const shape = TILED_SHAPES[0]!;
    const { topK, hidden, width } = shape;
    const routes = createRoutes(ROWS);
    const random = createRandom(10);
    const x = randomFloats(random, ROWS * hidden, 0.5);
    const before = randomFloats(random, ROWS * topK * width);
    const { experts } = createPages(shape);
    const act = await run(shape, PLACEMENT, routes, x, 2, before);
    for (const [row, ids] of routes.entries()) {
      const own = bench.roundRows(x.subarray(row * hidden, (row + 1) * hidden), hidden);
      for (const [rank, id] of ids.entries()) {
        const at = (row * topK + rank) * width;
        const [got, was] = [act.slice(at, at + width), before.slice(at, at + width)];
        const what = `row ${row}, expert ${id}`;
        if (PLACEMENT.slots[id] === null) expectSameBits(got, was, `${what}, absent`);
        else if (row % 5 === 0) {
          expectClose(got, expertFactor(bench.roundWeights(experts[id]!.gate), own, was), 2e-5, what);
        }
      }
    }
  });
});
