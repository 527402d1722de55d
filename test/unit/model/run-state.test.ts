import { describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../../src/checkpoint/model-config';
import type { KvType } from '../../../src/kernels/kv-type';
import { computeRope } from '../../../src/model/rope';
import { getChunkRows, getStateRequests, getStateShape } from '../../../src/model/run-state';
import { goldenModels } from '../../golden';

const config = goldenModels[0]?.config as ModelConfig;

describe('computeRope', () => {
  it.each([
    [10_000, 32, 16],
    [500_000, 64, 40],
    [50_000, 96, 5],
  ])('is cos and sin of position · θ^(-2d/D) for θ %d and %d dimensions', (theta, dims, contextLength) => {
    const table = computeRope({ theta, dims, pairing: 'half', scaling: null }, contextLength);
    expect(table).toHaveLength(contextLength * dims);
    for (let position = 0; position < contextLength; position++) {
      for (let d = 0; d < dims / 2; d++) {
        const angle = position / Math.exp(((2 * d) / dims) * Math.log(theta));
        const at = (position * (dims / 2) + d) * 2;
        expect(table[at]).toBeCloseTo(Math.cos(angle), 6);
        expect(table[at + 1]).toBeCloseTo(Math.sin(angle), 6);
      }
    }
  });
});

describe('getStateShape', () => {
  it('has a chunk of at most 256 tokens, at most the context, and at least one logits row', () => {
    for (const model of goldenModels) {
      expect(getStateShape(model.config, 1000, 'f32').rows).toBe(256);
      expect(getStateShape(model.config, 128, 'f32').rows).toBe(128);
      expect(getStateShape(model.config, 5, 'f32')).toMatchObject({ rows: 5, contextLength: 5, logitRows: 5 });
    }
    expect(getStateShape({ ...config, vocabSize: 10 << 20 }, 128, 'f32').logitRows).toBe(1);
  });

  it('has smaller chunks for wide models, never fewer than 8', () => {
    expect(getChunkRows({ ...config, hiddenSize: 1 << 22 })).toBe(8);
    const middle = getChunkRows({ ...config, hiddenSize: 16384, moe: { ...config.moe, expertsPerToken: 8 } });
    expect(middle).toBe(32);
  });

  it('depends on the model, the context and the type of the cache alone', () => {
    expect(getStateShape(config, 100, 'f16')).toEqual(getStateShape(structuredClone(config), 100, 'f16'));
  });
});

describe('getStateRequests', () => {
  const getCacheBytes = (of: ModelConfig, kvType: KvType): number[] =>
    getStateRequests(of, getStateShape(of, 77, kvType))
      .filter(({ label }) => label.includes('cache'))
      .map(({ sizeBytes }) => sizeBytes);

  it.each([
    ['f32', 4],
    ['f16', 2],
    ['q8', 36 / 32],
  ] as const)('asks for keys and values of every layer: heads, context and dimensions in %s', (kvType, valueBytes) => {
    const { kvHeads, headDim } = config.attention;
    expect(headDim % 32, 'the model has whole units').toBe(0);
    const bytes = kvHeads * 77 * headDim * valueBytes;
    expect(getCacheBytes(config, kvType)).toEqual(Array.from({ length: 2 * config.layers }, () => bytes));
  });

  it('asks for the last unit of a head whole', () => {
    const odd = { ...config, attention: { ...config.attention, headDim: 20, kvHeads: 3 } };
    expect(new Set(getCacheBytes(odd, 'q8'))).toEqual(new Set([3 * 77 * 36]));
    expect(new Set(getCacheBytes(odd, 'f16'))).toEqual(new Set([3 * 77 * 40]));
  });
});
