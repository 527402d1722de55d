/**
 * Several tokens by one submission, up to a page that is missing: ids, log-probabilities, text and trace of one token at a time,
 * with every page resident and with few, and whatever happens while a token has begun in the submission of the one before.
 */
import { describe, expect, it } from 'vitest';
import type { Engine, GenerateRequest } from '../../src/engine/engine';
import { goldenModels } from '../golden';
import { architectureNames, loadArchitecture } from '../golden/architectures';
import { loadResearch, researchNames } from '../golden/research';
import { createRandom, type Random } from '../unit/random';
import { answer } from './drafted-answer';
import { catchError, generate, openForTest, type TestModel } from './engine-session';
import { expectInterruptions } from './interrupted-answer';

const isFull = Boolean(import.meta.env.WEBMOE_FULL);
const NAME = 'e16k4-q4_0';
const base = { tokenIds: [3, 40, 77, 9], maxTokens: 30, ignoreEos: true, draft: { kind: 'off' } } as const;

describe('with every page resident', () => {
  it.each([
    ['greedy', { temperature: 0 }],
    ['drawn', { temperature: 1.3, topP: 0.95, seed: 7 }],
  ])('a run is as long as it may be, and its tokens are those of one at a time, %s', async (_, sampling) => {
    const { engine } = await openForTest(NAME);
    const [right, alone] = await answer(engine, { ...base, sampling, tokensPerSubmit: 1 });
    const [got, together] = await answer(engine, { ...base, sampling, tokensPerSubmit: 5 });
    expect(got).toEqual(right);
    // 29 tokens behind the prompt's: six submissions instead of 29.
    expect([alone.submits, together.submits, together.roundTrips]).toEqual([29, 6, 6]);
    expect(together.layersExecuted).toBe(alone.layersExecuted);
    expect(together.byLayer).toEqual(alone.byLayer);
    expect(together.draft).toEqual(alone.draft);
  });

  it('tokens come one by one where something is done to logits, or read within a token', async () => {
    const { engine } = await openForTest(NAME);
    const right = (await generate(engine, { ...base, tokensPerSubmit: 1 })).result.tokenIds;
    for (const [count, request] of [
      [29, { paging: { segmentLayers: 1024 } }],
      [29, { sampling: { logitBias: { 3: 0.5 } } }],
      [5, {}],
    ] as const) {
      const { result } = await generate(engine, { ...base, ...request, tokensPerSubmit: 6 });
      expect(result.stats.submits).toBe(count);
      if (!('sampling' in request)) expect(result.tokenIds).toEqual(right);
    }
  });

  it('a text ends at its end token, stop text or length, whatever the run had behind it', async () => {
    const { engine, loaded } = await openForTest(NAME);
    const long = (await generate(engine, { ...base, tokensPerSubmit: 1 })).result;
    for (const request of [{ maxTokens: 6 }, { maxTokens: 30, stop: [long.text.slice(4, 8)] }]) {
      const [right] = await answer(engine, { ...base, ...request, tokensPerSubmit: 1 });
      const [got] = await answer(engine, { ...base, ...request, tokensPerSubmit: 8 });
      expect(got).toEqual(right);
      expect(got.tokenIds.length).toBeLessThan(30);
    }
    expect(loaded.contextLength).toBeGreaterThan(34);
  });
});

const PREDICTORS = ['none', 'recency', 'token', 'lookahead', 'ensemble'] as const;

function pickRequest(random: Random, vocabSize: number, most: number): GenerateRequest {
  const runAhead = random.pick([true, false, undefined]);
  return {
    tokenIds: Array.from({ length: random.pick([1, 5, 20]) }, () => random.integer(0, vocabSize - 1)),
    maxTokens: random.integer(8, most),
    ignoreEos: random.pick([true, false]),
    sampling: { temperature: random.pick([0, 0.8, 1.5]), seed: random.integer(0, 2 ** 32 - 1) },
    paging: { predictor: random.pick(PREDICTORS), ...(runAhead !== undefined && { runAhead }) },
    draft: { kind: 'off' },
  };
}

/** @returns faults, and the round trips that one token at a time needed more. */
async function expectSame(whole: Engine, paged: Engine, request: GenerateRequest) {
  const [right] = await answer(whole, { ...request, tokensPerSubmit: 1 });
  const [alone, { roundTrips }] = await answer(paged, { ...request, tokensPerSubmit: 1 });
  expect(alone, JSON.stringify(request)).toEqual(right);
  const seen = { faults: 0, spared: 0 };
  for (const tokensPerSubmit of [2, 5, 8]) {
    const [got, stats] = await answer(paged, { ...request, tokensPerSubmit });
    expect(got, JSON.stringify({ tokensPerSubmit, ...request })).toEqual(right);
    expect(stats.draft.passes).toBe(stats.generatedTokens - 1);
    seen.faults += stats.faultingLayers;
    seen.spared += roundTrips - stats.roundTrips;
  }
  return seen;
}

async function expectSameOften(model: TestModel, percents: readonly number[], seed: number) {
  const { engine: whole, loaded } = await openForTest(model, { contextLength: 128 });
  const { engine: paged } = await openForTest(model, { contextLength: 128 });
  const { experts, expertsPerToken } = loaded;
  // Research models may use every expert.
  const least = (100 * Math.min(expertsPerToken, experts / 2)) / experts;
  const random = createRandom(seed);
  const total = { faults: 0, spared: 0 };
  for (const percent of percents) {
    await paged.setExpertBudget({ percent: Math.max(percent, least) });
    for (let i = 0; i < (isFull ? 6 : 2); i++) {
      const seen = await expectSame(whole, paged, pickRequest(random, 40, isFull ? 30 : 16));
      total.faults += seen.faults;
      total.spared += seen.spared;
    }
  }
  return total;
}

describe('with pages missing', () => {
  const names = goldenModels
    .filter(({ config: { moe } }) => moe.experts > moe.expertsPerToken)
    .map(({ name }) => name)
    .filter((name) => isFull || ['e60k8-q4_0', 'e16k4-tied-f32'].includes(name));

  it.each(names.map((name, index) => [name, index] as const))(
    '%s answers as one token at a time, with fewer round trips',
    async (name, index) => {
      const { faults, spared } = await expectSameOften(name, [0, 60, 90], 5000 + index);
      expect(faults).toBeGreaterThan(0);
      expect(spared).toBeGreaterThan(0);
    },
  );

  /** A window that slides; a recurrent mixer; dense layers first and a shared expert. */
  it.each(isFull ? architectureNames : ['gpt_oss', 'lfm2moe', 'glm4moe'])('%s does', async (architecture) => {
    const golden = (await loadArchitecture(architecture))[1] ?? (await loadArchitecture(architecture))[0];
    const { faults } = await expectSameOften(golden?.gguf as TestModel, [0], 5100);
    expect(faults).toBeGreaterThan(0);
  });

  /** One whose tokens may use every expert, one whose layers share pages, one whose routers have a state. */
  it.each(isFull ? researchNames : ['blockffn', 'rexmoe', 'rmoe'])('%s does', async (architecture) => {
    const folder = (await loadResearch(architecture))[0]?.folder ?? new Map();
    const { faults } = await expectSameOften(folder, [0], 5200);
    expect(faults).toBeGreaterThan(0);
  });

  it('nothing goes on behind a layer that needs more experts than it has slots', async () => {
    const { folder = new Map() } = (await loadResearch('blockffn'))[0] ?? {};
    const { engine: whole } = await openForTest(folder);
    const { engine: paged, loaded } = await openForTest(folder);
    await paged.setExpertBudget({ percent: 100 / loaded.experts });
    const request: GenerateRequest = { tokenIds: [3, 20, 9], maxTokens: 8, ignoreEos: true, draft: { kind: 'off' } };
    expect((await expectSame(whole, paged, request)).faults).toBeGreaterThan(0);
  });
});

describe('a token that has begun', () => {
  const tokenIds = goldenModels.find(({ name }) => name === NAME)?.prompts[2]?.tokenIds ?? [];
  const request: GenerateRequest = {
    tokenIds,
    maxTokens: 12,
    ignoreEos: true,
    draft: { kind: 'off' },
    tokensPerSubmit: 4,
  };

  it('and an abort, or a read that fails, leave no trace', async () => {
    await expectInterruptions(NAME, request, { ...request, tokensPerSubmit: 1 }, [0, 3]);
  });

  it('and a budget that changes before it goes on go together, up to every page and down again', async () => {
    const { engine } = await openForTest(NAME, { expertBudget: { percent: 34 } });
    const right = (await generate(engine, { ...request, tokensPerSubmit: 1 })).result.tokenIds;
    const got: number[] = [];
    for await (const event of engine.generate(request)) {
      if (event.type !== 'token') continue;
      got.push(event.tokenId);
      await engine.setExpertBudget({ percent: [34, 60, 100, 25][got.length % 4] as number });
    }
    expect(got).toEqual(right);
  });

  it('is begun again by a pass over guesses, or where logits are changed', async () => {
    const { engine } = await openForTest(NAME, { expertBudget: { percent: 34 } });
    const [right] = await answer(engine, { ...request, tokensPerSubmit: 1 });
    const [guessed] = await answer(engine, { ...request, draft: { kind: 'auto' } });
    expect(guessed).toEqual(right);
    // The second answer begins where the first one has begun a token: other logits, and so another text.
    await generate(engine, { ...request, maxTokens: 3 });
    const biased = { ...request, sampling: { logitBias: { [right.tokenIds[0] as number]: -100 } } };
    const [first] = await answer(engine, { ...biased, tokensPerSubmit: 1 });
    expect((await answer(engine, biased))[0]).toEqual(first);
    expect(first.tokenIds).not.toEqual(right.tokenIds);
  });
});

it('by default tokens are those of one at a time, at half of the experts and with all', async () => {
  const { engine } = await openForTest('e60k8-q4_0', { expertBudget: { percent: 50 } });
  const request = { ...base, tokenIds: [3, 40, 7, 9], maxTokens: 60, draft: {} };
  const [right] = await answer(engine, { ...request, tokensPerSubmit: 1 });
  expect((await answer(engine, request))[0]).toEqual(right);
  await engine.setExpertBudget({ percent: 100 });
  expect((await answer(engine, { ...request, draft: { kind: 'off' } }))[0]).toEqual(right);
});

it('numbers outside of 1 to 8 are refused', async () => {
  const { engine } = await openForTest(NAME);
  for (const tokensPerSubmit of [0, 9, 1.5, Number.NaN]) {
    const { error } = await catchError(generate(engine, { ...base, tokensPerSubmit }));
    expect(error).toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringContaining('from 1 to 8, or auto') });
  }
});
