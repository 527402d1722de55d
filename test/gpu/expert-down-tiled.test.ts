import { describe, it } from 'vitest';
import { compileExpertDownTiled } from '../../src/kernels/expert-down-tiled';
import { expertDown } from '../reference/expert-down';
import { createPages, type ExpertShape, type Placement } from './expert-pages';
import { createRoutes, ELSEWHERE, getTiledSpec, PLACEMENT, runTiled, TILED_SHAPES } from './expert-tiles';
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

describe.each(benches)('expert_down_tiled, $name', (bench) => {
  async function run(
    shape: ExpertShape,
    placement: Placement,
    routes: readonly number[][],
    act: Float32Array,
    buffers?: number,
  ): Promise<Float32Array> {
    const spec = getTiledSpec(shape);
    const kernel = await bench.compileOnce(spec, () => compileExpertDownTiled(bench.device, bench.variant, spec));
    const result = new Float32Array(routes.length * shape.topK * shape.hidden).fill(SENTINEL);
    const input = { pages: createPages(shape), placement, routes, ...(buffers ? { buffers } : {}) };
    return runTiled<'act'>(bench, shape, input, { act, result }, (b, pool) =>
      kernel.bind({ ...b, ...pool, outputs: b.result }),
    );
  }

  it.each(bench.thin(TILED_SHAPES))(
    '$type, biases $isClamped: every choice by its expert, wherever that lies and whoever else chose it',
    async (shape) => {
      const { topK, hidden, width } = shape;
      const routes = createRoutes(ROWS);
      const act = randomFloats(createRandom(9), ROWS * topK * width);
      const { experts } = createPages(shape);
      const outputs = await run(shape, PLACEMENT, routes, act);
      const moved = await run(shape, ELSEWHERE, routes, act);
      const lowOnly = await run(shape, PLACEMENT, routes, act, 1);
      const few = await run(shape, PLACEMENT, routes.slice(0, 3), act.slice(0, 3 * topK * width));
      expectSameBits(outputs.slice(0, few.length), few, 'three rows alone');
      routes.flat().forEach((id, choice) => {
        const at = choice * hidden;
        const what = `choice ${choice}, expert ${id}`;
        const got = outputs.slice(at, at + hidden);
        const slot = PLACEMENT.slots[id]!;
        const { biases } = experts[id]!;
        if (slot === null) expectUntouched(got, `${what}, absent`);
        else {
          if (choice % 5 === 0) {
            const down = bench.roundWeights(experts[id]!.down);
            const own = bench.roundRows(act.subarray(choice * width, (choice + 1) * width), width);
            const magnitude = expertDown(down.map(Math.abs), own.map(Math.abs));
            const tolerance = magnitude.map((sum) => (width + 8) * 2 ** -24 * (sum + 2));
            expectClose(
              got,
              expertDown(down, own).map((sum, i) => sum + biases.down[i]!),
              tolerance,
              what,
            );
          }
          expectSameBits(got, moved.slice(at, at + hidden), `${what}, moved`);
        }
        const isLow = slot !== null && slot < PLACEMENT.firstBufferSlots;
        if (isLow) expectSameBits(lowOnly.slice(at, at + hidden), got, `${what}, first buffer alone`);
        else expectUntouched(lowOnly.slice(at, at + hidden), `${what}, left to the other buffer`);
      });
    },
  );
});
