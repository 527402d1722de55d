/** Penalties and biases through the whole engine: they change the choice of tokens and nothing else. */
import { describe, expect, it } from 'vitest';
import type { GenerateRequest } from '../../src/engine/engine';
import { goldenModels } from '../golden';
import { generate, openSession, toBits } from './engine-session';

const NAME = 'e16k4-q4_0';
const model = goldenModels.find(({ name }) => name === NAME);
const prompt = model?.prompts[1]?.tokenIds ?? [];

const { engine } = await openSession(NAME);
const paged = await openSession(NAME, { expertBudget: { percent: 25 } });
const request: GenerateRequest = { tokenIds: prompt, maxTokens: 24, ignoreEos: true, topLogprobs: 2 };
const plain = (await generate(engine, request)).result;

describe('logit options', () => {
  it('a bias of 100 forces a token, one of -100 forbids it, and log-probabilities stay those of the model', async () => {
    const first = plain.tokenIds[0] as number;
    const forbidden = await generate(engine, { ...request, maxTokens: 1, sampling: { logitBias: { [first]: -100 } } });
    expect(forbidden.result.tokenIds[0]).toBe(plain.logprobs[0]?.top[1]?.[0]);
    expect(toBits(forbidden.result.logprobs)[0]?.split(' ').slice(1)).toEqual(
      toBits(plain.logprobs)[0]?.split(' ').slice(1),
    );
    const forced = await generate(engine, { ...request, maxTokens: 5, sampling: { logitBias: { 7: 100 } } });
    expect(forced.result.tokenIds).toEqual([7, 7, 7, 7, 7]);
  });

  it('penalties keep a repeating model from repeating, the same at every budget', async () => {
    const sampling = { logitBias: { 7: 6, 8: 5.5 }, frequencyPenalty: 2, presencePenalty: 1 };
    const biased = (await generate(engine, { ...request, sampling: { logitBias: sampling.logitBias } })).result;
    const penalised = (await generate(engine, { ...request, sampling })).result;
    const count = (ids: readonly number[]) => Math.max(...ids.map((id) => ids.filter((other) => other === id).length));
    expect(count(penalised.tokenIds)).toBeLessThan(count(biased.tokenIds));
    const small = (await generate(paged.engine, { ...request, sampling })).result;
    expect(small.tokenIds).toEqual(penalised.tokenIds);
    expect(toBits(small.logprobs)).toEqual(toBits(penalised.logprobs));
    expect(small.stats.uploadBytes.demand).toBeGreaterThan(0);
    // And nothing of it stays for the next request.
    expect((await generate(engine, request)).result.tokenIds).toEqual(plain.tokenIds);
  });

  it('refuses an id that the model does not have', async () => {
    await expect(generate(engine, { ...request, sampling: { logitBias: { 99999: 1 } } })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('99999'),
    });
  });
});
