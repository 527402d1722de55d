import { describe, expect, it } from 'vitest';
import type { WeightType } from '../../src/checkpoint/model-config';
import { compileMatmul } from '../../src/kernels/matmul';
import { matvec } from '../reference/matvec';
import { createRandom, expectClose, expectSameBits, openBenches, randomFloats, randomWeights } from './harness';

const TYPES: readonly WeightType[] = ['f32', 'f16', 'bf16', 'q4_0', 'q4_k', 'q8_0', 'mxfp4'];
const SHAPES = [
  { matrixRows: 1, cols: 32 },
  { matrixRows: 3, cols: 160 },
  { matrixRows: 21, cols: 96 },
  { matrixRows: 260, cols: 64 },
  { matrixRows: 5, cols: 256 },
];
/** Below, at and above the halves of a tile, the tile, and two of them. */
const TOKENS = [1, 7, 8, 9, 16, 17, 35];
const MOST_TOKENS = 35;
/** y has columns of others before and after. */
const Y_OFFSET = 3;
const Y_PADDING = 5;
/** Words of matvec's shape that mean nothing here: a kernel that read them would do nothing, or write elsewhere. */
const UNUSED = [0, 1 << 20] as const;

const benches = await openBenches({ isTiled: true });

describe.each(benches)('matmul, $name', (bench) => {
  const compile = (type: WeightType) => bench.compileOnce(type, () => compileMatmul(bench.device, bench.variant, type));

  it.each(bench.thin(TYPES))(
    'multiplies %s matrices of every shape by any number of tokens, with bias and scale, and adds where it shall',
    async (type) => {
      const kernel = await compile(type);
      const random = createRandom(1);
      // K types have blocks of 256.
      for (const { matrixRows, cols } of bench
        .thin(SHAPES)
        .filter((shape) => !type.endsWith('_k') || shape.cols % 256 === 0)) {
        const { packed, values: exact } = randomWeights(random, type, matrixRows, cols);
        const x = randomFloats(random, MOST_TOKENS * cols);
        const [values, factors] = [bench.roundWeights(exact), bench.roundRows(x, cols)];
        const stride = matrixRows + Y_PADDING;
        const y = randomFloats(random, MOST_TOKENS * stride);
        const product = matvec(values, factors, matrixRows, cols);
        const magnitude = matvec(values.map(Math.abs), factors.map(Math.abs), matrixRows, cols);
        const bias = randomFloats(random, stride);
        for (const [accumulate, hasBias, scale] of [
          [0, 0, 1],
          [1, 0, 1],
          [1, 1, 0.375],
        ] as const) {
          const {
            weights,
            x: xBuffer,
            bias: biasBuffer,
            ...ys
          } = await bench.place({
            weights: packed,
            x,
            bias,
            ...Object.fromEntries(TOKENS.map((count) => [`y${count}`, y])),
          });
          const targets = TOKENS.map((count) => (ys as Record<string, GPUBuffer>)[`y${count}`]!);
          const shape = bench.uniform(matrixRows, cols / 32, Y_OFFSET, stride, ...UNUSED, 0, accumulate, hasBias, {
            f32: scale,
          });
          const results = await bench.run(
            targets.map((target, i) => {
              const step = bench.uniform(TOKENS[i]!, 0, 99);
              return [
                kernel.bind({ shape, step, weights, x: xBuffer, y: target, bias: biasBuffer }, matrixRows),
                TOKENS[i]!,
              ];
            }),
            targets,
          );
          const most = new Float32Array(results.at(-1)!, 0, y.length);
          TOKENS.forEach((count, i) => {
            const what = `${matrixRows} x ${cols}, ${count} tokens, accumulate ${accumulate}`;
            const got = new Float32Array(results[i]!, 0, y.length);
            const expected = Float64Array.from(y);
            const tolerance = new Float64Array(y.length);
            for (let token = 0; token < count; token++) {
              for (let r = 0; r < matrixRows; r++) {
                const at = token * stride + Y_OFFSET + r;
                const value = product[token * matrixRows + r]! + hasBias * bias[Y_OFFSET + r]!;
                expected[at] = accumulate * expected[at]! + scale * value;
                tolerance[at] = (cols + 8) * 2 ** -24 * magnitude[token * matrixRows + r]! + accumulate * 2e-6 + 1e-37;
              }
            }
            expectClose(got, expected, tolerance, what);
            expectSameBits(
              got.slice(0, count * stride),
              most.slice(0, count * stride),
              `${what}, as among ${MOST_TOKENS}`,
            );
          });
        }
      }
    },
  );

  it('gives a token the same bits at every place of a tile', async () => {
    const kernel = await compile('q4_0');
    const random = createRandom(2);
    const [matrixRows, cols] = [21, 96];
    const { packed } = randomWeights(random, 'q4_0', matrixRows, cols);
    const own = randomFloats(random, cols);
    const x = new Float32Array(16 * cols);
    for (let token = 0; token < 16; token++) x.set(own, token * cols);
    const { y, y0, ...b } = await bench.place({
      weights: packed,
      x,
      y0: new Float32Array(4),
      y: new Float32Array(16 * matrixRows),
    });
    const shape = bench.uniform(matrixRows, cols / 32, 0, matrixRows, ...UNUSED, 0, 0, 0, { f32: 1 });
    const step = bench.uniform(16, 0);
    const [bytes] = await bench.run([[kernel.bind({ ...b, y, bias: y0, shape, step }, matrixRows), 16]], [y]);
    const rows = new Float32Array(bytes!, 0, 16 * matrixRows);
    for (let token = 1; token < 16; token++) {
      expectSameBits(
        rows.slice(token * matrixRows, (token + 1) * matrixRows),
        rows.slice(0, matrixRows),
        `place ${token}`,
      );
    }
  });

  it('refuses subgroup matrices that do not compile, with the remedy', async () => {
    const matrix = { rows: 7, columns: 8, depth: 8, lanes: 8 };
    await expect(compileMatmul(bench.device, { ...bench.variant, matrix }, 'f32')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/kernel matmul does not compile.*leave the option out/s),
    });
  });

  it('takes the number of logit rows where it is told to', async () => {
    const kernel = await compile('f32');
    const random = createRandom(3);
    const { packed, values } = randomWeights(random, 'f32', 3, 32);
    const x = randomFloats(random, 18 * 32);
    const { y, y0, ...b } = await bench.place({
      weights: packed,
      x,
      y0: new Float32Array(4),
      y: new Float32Array(18 * 3).fill(7),
    });
    const shape = bench.uniform(3, 1, 0, 3, ...UNUSED, 1, 0, 0, { f32: 1 });
    const step = bench.uniform(3, 0, 17);
    const [bytes] = await bench.run([[kernel.bind({ ...b, y, bias: y0, shape, step }, 3), 17]], [y]);
    const product = matvec(bench.roundWeights(values), bench.roundRows(x.subarray(0, 17 * 32), 32), 3, 32);
    const expected = [...product, 7, 7, 7];
    expectClose(new Float32Array(bytes!, 0, 18 * 3), expected, 1e-5);
  });
});
