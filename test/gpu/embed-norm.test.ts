import { describe, expect, it } from 'vitest';
import { getWeightFormat } from '../../src/checkpoint/formats';
import type { WeightType } from '../../src/checkpoint/model-config';
import { compileEmbedNorm } from '../../src/kernels/embed-norm';
import { ENDED, NO_FAULT } from '../../src/model/run-state';
import { embedNorm } from '../reference/embed-norm';
import {
  createRandom,
  expectClose,
  expectSameBits,
  openBenches,
  randomFloats,
  randomWeights,
  SENTINEL,
} from './harness';

const EPSILON = 1e-5;
const VOCAB = 23;
const PART_TOKENS = 16;

const CASES: readonly (readonly [type: WeightType, hidden: number, norm: 'rms' | 'layer', scale: number])[] = [
  ['f32', 32, 'rms', 1],
  ['f16', 96, 'rms', 1],
  ['bf16', 160, 'rms', 1],
  ['q4_0', 96, 'layer', 12],
  ['q8_0', 288, 'rms', 0.25],
  ['q4_1', 96, 'rms', 1],
  ['q5_0', 160, 'rms', 1],
  ['q5_1', 96, 'rms', 1],
  ['q2_k', 256, 'rms', 1],
  ['q3_k', 768, 'rms', 1],
  ['q4_k', 512, 'rms', 1],
  ['q5_k', 256, 'rms', 1],
  ['q6_k', 768, 'rms', 1],
  ['iq4_nl', 96, 'rms', 1],
  ['mxfp4', 160, 'rms', 1],
];

const benches = await openBenches();

describe.each(benches)('embed_norm, $name', (bench) => {
  describe.each(bench.thin(CASES))('%s, hidden size %i, %s norm, factor %d', (type, hidden, kind, scale) => {
    const random = createRandom(hidden);
    const { packed, values } = randomWeights(random, type, VOCAB, hidden);
    const norm = randomFloats(random, kind === 'layer' ? 2 * hidden : hidden, 2);

    /** Rows [first, first + tokens) of the table as a matrix of their own. */
    function getPart(first: number, tokens: number): Uint8Array<ArrayBuffer> {
      const format = getWeightFormat(type);
      const file = format.unpack(packed, VOCAB, hidden);
      const rowBytes = (hidden / format.blockWeights) * format.blockBytes;
      const part = new Uint8Array(format.getPackedBytes(tokens, hidden));
      format.pack(file.subarray(first * rowBytes, (first + tokens) * rowBytes), tokens, hidden, part, 0);
      return part;
    }

    async function run(
      tokens: Uint32Array,
      fault = NO_FAULT,
    ): Promise<[residual: Float32Array, x: Float32Array, control: Uint32Array]> {
      const kernel = await bench.compileOnce([type, hidden, kind, scale], () =>
        compileEmbedNorm(bench.device, bench.variant, {
          type,
          hiddenSize: hidden,
          norm: { kind, epsilon: EPSILON },
          embeddingScale: scale,
        }),
      );
      const blank = new Float32Array(tokens.length * hidden).fill(SENTINEL);
      const { low, high, ...rest } = await bench.place({
        low: getPart(0, PART_TOKENS),
        high: getPart(PART_TOKENS, VOCAB - PART_TOKENS),
        tokens,
        norm,
        residual: blank,
        x: blank,
        control: Uint32Array.of(fault, 0, 0, 0),
      });
      const bytes = await bench.run(
        [
          [kernel.bind({ part: bench.uniform(0, PART_TOKENS), weights: low, ...rest }), tokens.length],
          [
            kernel.bind({ part: bench.uniform(PART_TOKENS, VOCAB - PART_TOKENS), weights: high, ...rest }),
            tokens.length,
          ],
        ],
        [rest.residual, rest.x, rest.control],
      );
      return [
        new Float32Array(bytes[0]!, 0, blank.length),
        new Float32Array(bytes[1]!, 0, blank.length),
        new Uint32Array(bytes[2]!, 0, 4),
      ];
    }

    it('looks tokens up in both parts of a split table, at the edges too, and normalises them', async () => {
      const tokens = Uint32Array.of(15, 0, 16, 22, 7, 16, 0);
      const [residual, x] = await run(tokens);
      const expected = embedNorm(values, tokens, norm, EPSILON, { kind, scale });
      expectClose(
        residual,
        expected.residual,
        expected.residual.map((value) => (scale === 1 ? 0 : Math.abs(value) * 1e-6)),
        'residual',
      );
      expectClose(
        x,
        expected.x,
        expected.x.map((value) => (kind === 'layer' ? 1e-5 : Math.abs(value) * 2e-6 + 1e-30)),
        'x',
      );
      for (const [row, token] of tokens.entries()) {
        const [ownResidual, ownX] = await run(Uint32Array.of(token));
        expectSameBits(residual.slice(row * hidden, (row + 1) * hidden), ownResidual, `residual of row ${row}`);
        expectSameBits(x.slice(row * hidden, (row + 1) * hidden), ownX, `x of row ${row}`);
      }
    });

    it('touches nothing behind a fault, and says that the pass has ended', async () => {
      const tokens = Uint32Array.of(3, 20);
      expect((await run(tokens))[2][0]).toBe(NO_FAULT);
      for (const fault of [0, 5, ENDED]) {
        const [residual, x, control] = await run(tokens, fault);
        expect(new Set([...residual, ...x])).toEqual(new Set([SENTINEL]));
        expect([...control]).toEqual([ENDED, 0, 0, 0]);
      }
    });

    it('leaves a row alone whose token no part has', async () => {
      const [residual, x] = await run(Uint32Array.of(VOCAB, 0xffffffff));
      expect(new Set([...residual, ...x])).toEqual(new Set([SENTINEL]));
    });
  });
});
