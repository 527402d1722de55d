import { describe, expect, it } from 'vitest';
import { getWeightFormat, weightFormats } from '../../src/checkpoint/formats';
import type { WeightType } from '../../src/checkpoint/model-config';
import { compileMatvec, type Matvec, type MatvecSpec, NO_SHADOW } from '../../src/kernels/matvec';
import { matvec } from '../reference/matvec';
import {
  type Bench,
  createControl,
  createRandom,
  expectClose,
  expectSameBits,
  onGrid,
  openBenches,
  type PassState,
  randomFloats,
  randomWeights,
} from './harness';
import { describeCase, LAYER, MODES } from './modes';

const TYPES: readonly WeightType[] = weightFormats.map(({ type }) => type);
interface MatrixShape {
  readonly matrixRows: number;
  readonly cols: number;
}
const crossShapes = (rows: readonly number[], allCols: readonly number[]): MatrixShape[] =>
  rows.flatMap((matrixRows) => allCols.map((cols) => ({ matrixRows, cols })));
const SHAPES = crossShapes([1, 3, 5, 33], [32, 96, 160, 256]);
/** For types with blocks of 256 weights. */
const K_SHAPES = crossShapes([1, 5, 33], [256, 768]);
/** More blocks than the widest form has lanes. */
const WIDE_SHAPE = { matrixRows: 3, cols: 65 * 32 };
const WIDE_K_SHAPE = { matrixRows: 3, cols: 9 * 256 };
const getShapes = (bench: Bench, type: WeightType): readonly MatrixShape[] =>
  getWeightFormat(type).blockWeights === 256
    ? [...bench.thin(K_SHAPES), WIDE_K_SHAPE]
    : [...bench.thin(SHAPES), WIDE_SHAPE];
const TOKENS = [1, 2, 7];
/** y has columns of others before and after. */
const Y_OFFSET = 3;
const Y_PADDING = 5;

const benches = await openBenches();

/** Bound on an f32 dot product in any order of sums, from the sum of its terms' magnitudes. */
function getTolerance(w: Float32Array, x: Float32Array, matrixRows: number, cols: number): Float64Array {
  return matvec(w.map(Math.abs), x.map(Math.abs), matrixRows, cols).map((sum) => (cols + 8) * 2 ** -24 * sum + 1e-37);
}

/** y of each number of tokens, in one submission. */
async function run(
  bench: Bench,
  kernel: Matvec,
  {
    packed,
    x,
    matrixRows,
    cols,
    y,
    tokens = TOKENS,
    state,
    shadowOffset = NO_SHADOW,
    yRows,
    bias = new Float32Array(4),
  }: {
    packed: Uint8Array<ArrayBuffer>;
    x: Float32Array;
    matrixRows: number;
    cols: number;
    y: Float32Array;
    tokens?: readonly number[];
    state?: PassState;
    shadowOffset?: number;
    /** y's, where more than the tokens. */
    yRows?: number;
    /** [y stride] */
    bias?: Float32Array;
  },
): Promise<Float32Array[]> {
  const stride = matrixRows + Y_PADDING;
  const buffers = await bench.place({
    weights: packed,
    x,
    bias,
    control: createControl(state),
    ...Object.fromEntries(tokens.map((count) => [`y${count}`, y.slice(0, (yRows ?? count) * stride)])),
  });
  const ys = tokens.map((count) => (buffers as Record<string, GPUBuffer>)[`y${count}`]!);
  const shape = bench.uniform(matrixRows, cols / 32, Y_OFFSET, stride, LAYER, shadowOffset);
  const results = await bench.run(
    ys.map((target, i) => [
      kernel.bind(
        { shape, weights: buffers.weights, x: buffers.x, y: target, control: buffers.control, bias: buffers.bias },
        matrixRows,
      ),
      tokens[i]!,
    ]),
    ys,
  );
  return results.map((bytes, i) => new Float32Array(bytes, 0, (yRows ?? tokens[i]!) * stride));
}

/** What y must be: the results in their columns, the rest as it was. */
function embed(y: Float32Array, results: Float64Array, matrixRows: number, accumulate: boolean): Float64Array {
  const stride = matrixRows + Y_PADDING;
  const expected = Float64Array.from(y.subarray(0, (results.length / matrixRows) * stride));
  results.forEach((value, i) => {
    const at = Math.floor(i / matrixRows) * stride + Y_OFFSET + (i % matrixRows);
    expected[at] = (accumulate ? expected[at]! : 0) + value;
  });
  return expected;
}

const PLAIN = { hasBias: false, scale: 1, spansOf: null } as const;

describe.each(benches)('matvec, $name', (bench) => {
  const compile = (spec: MatvecSpec) => bench.compileOnce(spec, () => compileMatvec(bench.device, bench.variant, spec));

  // Reading weights does not touch how a sum is stored: both ways are shown by the oldest types.
  const getWays = (type: WeightType) => (['f32', 'q4_0', 'q8_0'].includes(type) ? [false, true] : [false]);

  describe.each(bench.thin(TYPES))('%s', (type) => {
    it.each(getWays(type))(
      'multiplies every shape, accumulate %s, and leaves the other columns alone',
      async (accumulate) => {
        const kernel = await compile({ type, accumulate, ...PLAIN });
        const random = createRandom(1);
        for (const { matrixRows, cols } of getShapes(bench, type)) {
          const { packed, values } = randomWeights(random, type, matrixRows, cols);
          const x = randomFloats(random, 7 * cols);
          const y = randomFloats(random, 7 * (matrixRows + Y_PADDING));
          const results = await run(bench, kernel, { packed, x, matrixRows, cols, y });
          TOKENS.forEach((count, i) => {
            const rows = x.subarray(0, count * cols);
            const expected = embed(y, matvec(values, rows, matrixRows, cols), matrixRows, accumulate);
            const zeros = new Float32Array(y.length);
            const tolerance = embed(zeros, getTolerance(values, rows, matrixRows, cols), matrixRows, false);
            if (accumulate)
              for (let at = 0; at < tolerance.length; at++) if (tolerance[at]! > 0) tolerance[at]! += 2e-6;
            expectClose(results[i]!, expected, tolerance, `${matrixRows}x${cols}, ${count} tokens`);
          });
        }
      },
    );

    it('gives each of 7 rows the bits that it has alone, whatever the tiles', async () => {
      const random = createRandom(2);
      const [matrixRows, cols] = [33, getWeightFormat(type).blockWeights === 256 ? 512 : 160];
      const { packed } = randomWeights(random, type, matrixRows, cols);
      const x = randomFloats(random, 7 * cols);
      const stride = matrixRows + Y_PADDING;
      const y = new Float32Array(7 * stride);
      const spec = { type, accumulate: false, ...PLAIN };
      const kernel = await compile(spec);
      const [all] = await run(bench, kernel, { packed, x, matrixRows, cols, y, tokens: [7] });
      for (let row = 0; row < 7; row++) {
        const own = x.slice(row * cols, (row + 1) * cols);
        const [alone] = await run(bench, kernel, { packed, x: own, matrixRows, cols, y, tokens: [1] });
        expectSameBits(all!.slice(row * stride, (row + 1) * stride), alone!, `row ${row}`);
      }
      const otherTiles = { ...bench.variant, tiles: bench.variant.tiles === 1 ? 8 : 3 };
      const other = await compileMatvec(bench.device, otherTiles, spec);
      const [same] = await run(bench, other, { packed, x, matrixRows, cols, y, tokens: [7] });
      expectSameBits(same!, all!, `tiles ${otherTiles.tiles}`);
    });
  });

  const forms = (['packed', 'f16'] as const).flatMap((products) =>
    bench.offers(products) ? [[products, 'q4_0'] as const, [products, 'q8_0'] as const] : [],
  );
  describe.each(bench.thin(forms))('%s, %s', (products, type) => {
    const spec = { type, accumulate: false, ...PLAIN };
    const compileForm = () =>
      bench.compileOnce([products, spec], () => compileMatvec(bench.device, { ...bench.variant, products }, spec));

    it('multiplies activations that it need not round, every shape, and each row as it is alone', async () => {
      const kernel = await compileForm();
      const random = createRandom(11);
      for (const { matrixRows, cols } of getShapes(bench, type)) {
        const { packed, values } = randomWeights(random, type, matrixRows, cols);
        const x = onGrid(randomFloats(random, 2 * cols), products);
        const y = new Float32Array(2 * (matrixRows + Y_PADDING));
        const [got] = await run(bench, kernel, { packed, x, matrixRows, cols, y, tokens: [2] });
        const expected = embed(y, matvec(values, x, matrixRows, cols), matrixRows, false);
        const tolerance = embed(y, getTolerance(values, x, matrixRows, cols), matrixRows, false);
        expectClose(got!, expected, tolerance, `${matrixRows}x${cols}`);
        const [alone] = await run(bench, kernel, { packed, x: x.slice(cols), matrixRows, cols, y, tokens: [1] });
        expectSameBits(got!.slice(matrixRows + Y_PADDING), alone!, `${matrixRows}x${cols}, row 1`);
      }
    });

    it('rounds others by no more than its steps, and takes zeros and large ones', async () => {
      const kernel = await compileForm();
      const random = createRandom(12);
      const [matrixRows, cols] = [5, 160];
      const { packed, values } = randomWeights(random, type, matrixRows, cols);
      const x = randomFloats(random, 2 * cols, 3).fill(0, cols, cols + 32);
      // Above what a half can hold.
      for (let i = 32; i < 64; i++) x[i]! *= 1e5;
      const y = new Float32Array(2 * (matrixRows + Y_PADDING));
      const [got] = await run(bench, kernel, { packed, x, matrixRows, cols, y, tokens: [2] });
      const steps = x.map((value, i) => {
        const block = x.subarray(Math.floor(i / 32) * 32, Math.floor(i / 32) * 32 + 32);
        const largest = Math.max(...block.map(Math.abs));
        if (products === 'packed') return (largest / 127) * 0.501;
        // Half a step of 11 bits, once for the activation and once for the product; of subnormal halves 2^-24 of the largest.
        return Math.abs(value) * 2.01 * 2 ** -11 + largest * 2 ** -23;
      });
      const rounding = matvec(values.map(Math.abs), steps, matrixRows, cols);
      const order = getTolerance(values, x, matrixRows, cols);
      const tolerance = embed(
        y,
        rounding.map((bound, i) => bound + 2 * order[i]!),
        matrixRows,
        false,
      );
      expectClose(got!, embed(y, matvec(values, x, matrixRows, cols), matrixRows, false), tolerance);
    });
  });

  it.runIf(bench === benches[0])('multiplies more rows than a dimension of a grid has workgroups', async () => {
    const spec = { type: 'q4_0', accumulate: false, ...PLAIN } as const;
    const kernel = await compileMatvec(bench.device, { ...bench.variant, tiles: 1 }, spec);
    const random = createRandom(7);
    const [matrixRows, cols] = [4 * 65_535 + 6, 32];
    const { packed, values } = randomWeights(random, 'q4_0', matrixRows, cols);
    const x = randomFloats(random, cols);
    const y = new Float32Array(matrixRows + Y_PADDING);
    const [got] = await run(bench, kernel, { packed, x, matrixRows, cols, y, tokens: [1] });
    const expected = embed(y, matvec(values, x, matrixRows, cols), matrixRows, false);
    expectClose(got!, expected, embed(y, getTolerance(values, x, matrixRows, cols), matrixRows, false));
  });

  it('adds a bias by column of y, and scales both', async () => {
    const kernel = await compile({ type: 'f32', accumulate: true, hasBias: true, scale: 0.5, spansOf: null });
    const random = createRandom(6);
    const [matrixRows, cols] = [13, 64];
    const { packed, values } = randomWeights(random, 'f32', matrixRows, cols);
    const x = randomFloats(random, 2 * cols);
    const y = randomFloats(random, 2 * (matrixRows + Y_PADDING));
    const bias = randomFloats(random, matrixRows + Y_PADDING);
    const [got] = await run(bench, kernel, { packed, x, matrixRows, cols, y, tokens: [2], bias });
    const biased = matvec(values, x, matrixRows, cols).map(
      (value, i) => 0.5 * (value + bias[Y_OFFSET + (i % matrixRows)]!),
    );
    expectClose(got!, embed(y, biased, matrixRows, true), 1e-5);
  });

  it.each([false, true])(
    'writes to its shadow half behind a fault, never both halves, accumulate %s',
    async (accumulate) => {
      const kernel = await compile({ type: 'f32', accumulate, ...PLAIN });
      const random = createRandom(3);
      const [matrixRows, cols, capacity] = [5, 32, 3];
      const { packed } = randomWeights(random, 'f32', matrixRows, cols);
      const x = randomFloats(random, 2 * cols);
      const halfSize = capacity * (matrixRows + Y_PADDING);
      const y = randomFloats(random, 2 * halfSize);
      const input = { packed, x, matrixRows, cols, y, tokens: [2], yRows: 2 * capacity };
      const [exact] = await run(bench, kernel, input);
      expectSameBits(exact!.slice(halfSize), y.slice(halfSize), 'shadow half without a fault');
      // The same with the halves swapped: what a shadow half must become.
      const swapped = new Float32Array([...y.slice(halfSize), ...y.slice(0, halfSize)]);
      const [shadow] = await run(bench, kernel, { ...input, y: swapped });
      expect(shadow!.slice(0, halfSize)).not.toEqual(swapped.slice(0, halfSize));

      for (const state of MODES) {
        const [doubled] = await run(bench, kernel, { ...input, state, shadowOffset: halfSize });
        const [shared] = await run(bench, kernel, { ...input, state, shadowOffset: 0 });
        const [single] = await run(bench, kernel, { ...input, state });
        const what = describeCase(state);
        const isExact = state.attention === 'exact';
        const isShadow = state.attention === 'shadow';
        expectSameBits(doubled!.slice(0, halfSize), (isExact ? exact! : y).slice(0, halfSize), `exact half, ${what}`);
        const second = isShadow ? shadow!.slice(0, halfSize) : y.slice(halfSize);
        expectSameBits(doubled!.slice(halfSize), second, `shadow half, ${what}`);
        expectSameBits(shared!, isExact || isShadow ? exact! : y, `one half for both, ${what}`);
        expectSameBits(single!, isExact ? exact! : y, `no shadow, ${what}`);
      }
    },
  );

  it.each(['f16', 'q4_0', 'q8_0'] as const)('reads %s halves that are subnormal, and zero', async (type) => {
    const kernel = await compile({ type, accumulate: false, ...PLAIN });
    const format = getWeightFormat(type);
    const file = new Uint8Array((64 / format.blockWeights) * format.blockBytes).fill(0x21);
    const view = new DataView(file.buffer);
    // Scales: 3 * 2^-24 and the largest subnormal. Plain halves: also the negative of the smallest, and zero.
    const halves = [0x0003, 0x03ff, 0x8001, 0x0000];
    for (let at = 0, i = 0; at < file.byteLength; at += format.blockBytes, i++)
      view.setUint16(at, halves[i % 4]!, true);
    const packed = new Uint8Array(format.getPackedBytes(2, 32));
    format.pack(file, 2, 32, packed, 0);
    const values = format.dequantize(packed, 2, 32);
    const x = randomFloats(createRandom(4), 32);
    const [y] = await run(bench, kernel, { packed, x, matrixRows: 2, cols: 32, y: new Float32Array(7), tokens: [1] });
    const expected = matvec(values, x, 2, 32);
    expectClose(y!.slice(Y_OFFSET, Y_OFFSET + 2), expected, getTolerance(values, x, 2, 32));
  });
});
