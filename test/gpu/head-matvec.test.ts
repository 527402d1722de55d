import { describe, it } from 'vitest';
import type { WeightType } from '../../src/checkpoint/model-config';
import { compileHeadMatvec } from '../../src/kernels/head-matvec';
import type { Products } from '../../src/kernels/variant';
import { matvec } from '../reference/matvec';
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

/** [type, heads, rows of a head, columns, values before a head's part of x, and behind its part of y, products] */
const SHAPES: readonly [WeightType, number, number, number, number, number, Products?][] = [
  ['f32', 3, 9, 32, 0, 0],
  ['q8_0', 2, 32, 96, 8, 3],
  ['q4_0', 1, 64, 160, 4, 0],
  ['bf16', 5, 6, 64, 0, 2],
  ['q4_0', 3, 9, 64, 0, 1, 'packed'],
  ['q8_0', 2, 32, 96, 32, 3, 'packed'],
  ['q4_0', 3, 9, 64, 0, 1, 'f16'],
  ['q8_0', 2, 32, 96, 32, 3, 'f16'],
];

const benches = await openBenches();

describe.each(benches)('head_matvec, $name', (bench) => {
  it.each(bench.thin(SHAPES.filter(([, , , , , , products = 'plain']) => bench.offers(products))))(
    '%s, %i heads of %i x %i, %i values behind in x, %i in y, products %s',
    async (...shape) => {
      const { run, values, x, heads, rows, cols, xHead, yHead } = await prepare(shape);
      const y = await run(x);
      for (let row = 0; row < ROWS; row++) {
        const own = x.slice(row * heads * xHead, (row + 1) * heads * xHead);
        for (let head = 0; head < heads; head++) {
          const matrix = values.subarray(head * rows * cols, (head + 1) * rows * cols);
          const expected = matvec(matrix, own.subarray(head * xHead, head * xHead + cols), rows, cols);
          const at = (row * heads + head) * yHead;
          expectClose(y.slice(at, at + rows), expected, 1e-4, `row ${row}, head ${head}`);
          expectUntouched(y.slice(at + rows, at + yHead), `behind head ${head}`);
        }
        expectSameBits(
          (await run(own)).slice(0, heads * yHead),
          y.slice(row * heads * yHead, (row + 1) * heads * yHead),
        );
      }
    },
  );

  it('writes in shadow too, and nothing when dead', async () => {
    const { run, x } = await prepare(SHAPES[0]!);
    const exact = await run(x);
    for (const state of MODES) {
      const y = await run(x, state);
      if (state.attention === 'dead') expectUntouched(y, describeCase(state));
      else expectSameBits(y, exact, describeCase(state));
    }
  });

  async function prepare([type, heads, rows, cols, xGap, yGap, products = 'plain']: (typeof SHAPES)[number]) {
    const random = createRandom(rows + cols);
    const { packed, values } = randomWeights(random, type, heads * rows, cols);
    const [xHead, yHead] = [cols + xGap, rows + yGap];
    const raw = randomFloats(random, ROWS * heads * xHead);
    const x = onGrid(raw, products);
    const kernel = await bench.compileOnce([type, products], () =>
      compileHeadMatvec(bench.device, { ...bench.variant, products }, { type, spansOf: null }),
    );
    const run = async (input: Float32Array, state: PassState = {}) => {
      const count = input.length / (heads * xHead);
      const blank = new Float32Array(count * heads * yHead).fill(SENTINEL);
      const b = await bench.place({ weights: packed, x: input, y: blank, control: createControl(state) });
      const strides = [(heads * xHead) / 4, xHead / 4, heads * yHead, yHead];
      const shape = bench.uniform(rows, cols / 32, heads, ...strides, LAYER);
      const [bytes] = await bench.run([[kernel.bind({ ...b, shape }, heads, rows), count]], [b.y]);
      return new Float32Array(bytes!, 0, blank.length);
    };
    return { run, values, x, heads, rows, cols, xHead, yHead };
  }
});
