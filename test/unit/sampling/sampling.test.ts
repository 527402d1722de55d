import { describe, expect, it } from 'vitest';
import { computeLogprobs, getSamplingWords, resolveSampling } from '../../../src/sampling/sampling';
import { createRandom } from '../random';

describe('resolveSampling', () => {
  it('is greedy without filters by default', () => {
    expect(resolveSampling()).toEqual({ temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0 });
    expect(resolveSampling({ temperature: undefined })).toEqual(resolveSampling());
  });

  it.each([
    { temperature: 0 },
    { temperature: 100 },
    { topK: 1 },
    { topP: 0 },
    { topP: 1 },
    { minP: 1 },
    { seed: 2 ** 32 - 1 },
  ])('takes %o', (options) => {
    expect(resolveSampling(options)).toMatchObject(options);
  });

  it.each([
    ['temperature', -0.1],
    ['temperature', Number.NaN],
    ['temperature', Infinity],
    ['topK', -1],
    ['topK', 1.5],
    ['topK', Number.NaN],
    ['topP', 1.01],
    ['topP', -0.5],
    ['minP', 2],
    ['minP', Number.NaN],
    ['seed', -1],
    ['seed', 2 ** 32],
    ['seed', 0.5],
  ])('refuses %s %d, naming option, value and range', (name, value) => {
    expect(() => resolveSampling({ [name]: value })).toThrow(
      expect.objectContaining({
        code: 'BAD_ARGUMENT',
        message: expect.stringMatching(new RegExp(`^${name} .*${String(value)}.* from 0 to `)),
      }),
    );
  });
});

describe('getSamplingWords', () => {
  it('keeps all tokens with top-k 0 or above the vocabulary', () => {
    const topK = (k: number) => getSamplingWords(resolveSampling({ topK: k }), 50, 3)[1];
    expect([topK(0), topK(20), topK(51)]).toEqual([50, 20, 50]);
  });

  it('depends on the position and the seed', () => {
    expect(getSamplingWords(resolveSampling({ seed: 9 }), 50, 3).slice(4)).toEqual([9, 3]);
  });
});

describe('computeLogprobs', () => {
  it('is log softmax over the whole vocabulary', () => {
    const random = createRandom(11);
    for (let round = 0; round < 20; round++) {
      const logits = Float32Array.from({ length: random.integer(1, 300) }, () => random.number() * 40 - 20);
      const tokenId = random.integer(0, logits.length - 1);
      const count = random.integer(0, logits.length);
      const values = [...logits];
      const sum = values.reduce((total, logit) => total + Math.exp(logit), 0);
      const naive = values.map((logit) => Math.log(Math.exp(logit) / sum));

      const { logprob, top } = computeLogprobs(logits, tokenId, count);
      expect(logprob).toBeCloseTo(naive[tokenId] as number, 9);
      expect(top).toHaveLength(count);
      const ids = values.map((_, id) => id).sort((a, b) => (values[b] as number) - (values[a] as number) || a - b);
      expect(top.map(([id]) => id)).toEqual(ids.slice(0, count));
      for (const [id, value] of top) expect(value).toBeCloseTo(naive[id] as number, 9);
    }
  });

  it('neither overflows nor underflows on large logits', () => {
    const { logprob, top } = computeLogprobs(Float32Array.of(1e6, 1e6, -3e38), 0, 3);
    expect(logprob).toBeCloseTo(-Math.LN2, 9);
    expect(top.map(([id]) => id)).toEqual([0, 1, 2]);
    expect(computeLogprobs(Float32Array.of(-5000, -5001), 1, 0).logprob).toBeCloseTo(-1 - Math.log1p(Math.exp(-1)), 9);
  });

  it('gives the first few of many, with ties, as sorting gives them', () => {
    const random = createRandom(12);
    const logits = Float32Array.from({ length: 5000 }, () => random.integer(-40, 40));
    logits[17] = Number.NEGATIVE_INFINITY;
    const ids = [...logits.keys()].sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
    for (const count of [1, 5, 63, 64, 65, 4999, 5000]) {
      expect(computeLogprobs(logits, 0, count).top.map(([id]) => id)).toEqual(ids.slice(0, count));
    }
    const few = Float32Array.of(Number.NEGATIVE_INFINITY, 1, Number.NEGATIVE_INFINITY, 2);
    expect(computeLogprobs(few, 1, 3).top.map(([id]) => id)).toEqual([3, 1, 0]);
  });

  it('gives equal logits in the order of their ids', () => {
    expect(computeLogprobs(Float32Array.of(1, 2, 1, 2), 0, 4).top.map(([id]) => id)).toEqual([1, 3, 0, 2]);
  });
});
