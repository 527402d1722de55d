/**
 * Passes over guesses one by one: what they count, where they end, and that an abort, a failing read or a changed budget in
 * their middle leaves no trace.
 */
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { GenerateRequest } from '../../src/engine/engine';
import { goldenModels } from '../golden';
import { loadArchitecture } from '../golden/architectures';
import { answer } from './drafted-answer';
import { generate, openForTest, type TestModel } from './engine-session';
import { expectInterruptions } from './interrupted-answer';
import { cutBytes, writeScriptedModel } from './scripted-model';

const NAME = 'e16k4-q4_0';
const SMALLEST = { expertBudget: { percent: 25 } } as const;
/** Of gpt-oss the golden model with most experts, and its window: the prompt fills it. */
const SAMPLED_SHAPE = 1;
const WINDOW = 40;

afterEach(() => {
  vi.restoreAllMocks();
});

describe('a self-draft', () => {
  it('with every expert resident is the model itself: each guess holds, and a pass is one round trip', async () => {
    const { engine } = await openForTest(NAME);
    for (const temperature of [0, 0.8]) {
      const sampling = { temperature, seed: 3 };
      const request = { tokenIds: [5, 9, 30], maxTokens: 16, ignoreEos: true, sampling };
      const [, { draft, roundTrips, submits, layersExecuted }] = await answer(engine, {
        ...request,
        draft: { kind: 'self', tokens: 4 },
      });
      expect(draft).toEqual({
        proposed: 12,
        accepted: 12,
        passes: 3,
        sources: { off: 0, self: 3, lookup: 0, table: 0, grammar: 0 },
      });
      expect({ roundTrips, submits, layersExecuted }).toEqual({ roundTrips: 3, submits: 3, layersExecuted: 9 });
    }
  });

  it('names pages that its pass will miss: fewer round trips than without', async () => {
    const { engine } = await openForTest('e60k8-q4_0', { expertBudget: { percent: 50 } });
    const paging = { predictor: 'none', runAhead: false, segmentLayers: 99 } as const;
    const request: GenerateRequest = {
      tokenIds: [42, 7, 19],
      maxTokens: 30,
      ignoreEos: true,
      paging,
      tokensPerSubmit: 1,
    };
    const [right, off] = await answer(engine, { ...request, draft: { kind: 'off' } });
    const [got, self] = await answer(engine, { ...request, draft: { kind: 'self', tokens: 3 } });
    expect(got).toEqual(right);
    expect(self.uploadBytes.useful).toBeGreaterThan(0);
    expect(self.roundTrips).toBeLessThan(off.roundTrips);
  });
});

describe('guesses from the text', () => {
  it('make several tokens a pass where a text repeats itself, and none that the model would not have made', async () => {
    // Token i is always followed by i + 1, the last by the first.
    const { gguf, vocabSize } = writeScriptedModel(cutBytes('one two three four ', [4]));
    const { engine } = await openForTest(gguf);
    const tokenIds = Array.from({ length: vocabSize + 4 }, (_, i) => i % vocabSize);
    const request = { tokenIds, maxTokens: 30, ignoreEos: true };
    const [right, off] = await answer(engine, { ...request, draft: { kind: 'off' } });
    const [got, { draft }] = await answer(engine, { ...request, draft: { kind: 'ngram', tokens: 4 } });
    expect(got).toEqual(right);
    expect(off.draft.passes).toBe(29);
    expect(draft).toMatchObject({ passes: 6, accepted: 23, sources: { lookup: 6 } });
  });

  it('end where the text ends: at a stop text, an end token, the last token asked for, the context', async () => {
    const { gguf, vocabSize, endId } = writeScriptedModel(cutBytes('abcdefgh', [1]), 24);
    const { engine } = await openForTest(gguf);
    const tokenIds = Array.from({ length: vocabSize + 4 }, (_, i) => i % vocabSize);
    for (const request of [
      { tokenIds, maxTokens: 10, ignoreEos: true, stop: ['gh'] },
      { tokenIds, maxTokens: 30 },
      { tokenIds, maxTokens: 7, ignoreEos: true },
      { tokenIds, maxTokens: 100, ignoreEos: true },
    ]) {
      const [right] = await answer(engine, { ...request, draft: { kind: 'off' } });
      for (const kind of ['ngram', 'self'] as const) {
        const [got, { draft }] = await answer(engine, { ...request, draft: { kind, tokens: 8 } });
        expect(got, kind).toEqual(right);
        expect(draft.accepted, kind).toBeGreaterThan(0);
      }
    }
    const [ended] = await answer(engine, { tokenIds, maxTokens: 30, draft: { kind: 'ngram', tokens: 8 } });
    expect(ended.tokenIds.at(-1)).toBe(endId);
    expect(ended.trace.map(({ token }) => token)).not.toContain(undefined);
    expect(ended.trace).toHaveLength(tokenIds.length + ended.tokenIds.length - 1);
  });
});

/** A model without a window, and one whose window the prompt fills. */
const interrupted = [
  [NAME, async () => ({ model: NAME, tokenIds: goldenModels.find(({ name }) => name === NAME)?.prompts[2]?.tokenIds })],
  [
    'gpt_oss',
    async () => {
      const golden = (await loadArchitecture('gpt_oss'))[SAMPLED_SHAPE];
      return { model: golden?.gguf, tokenIds: golden?.prompts.at(-1)?.tokenIds.slice(0, WINDOW) };
    },
  ],
] as const;

describe.each(interrupted)('a pass over guesses of %s', (_, load) => {
  it('that is aborted, or loses a page read, in the middle gives that error, and the same answer afterwards', async () => {
    const { model, tokenIds = [] } = await load();
    const request: GenerateRequest = { tokenIds, maxTokens: 8, ignoreEos: true, draft: { kind: 'self', tokens: 4 } };
    // From the first pass over guesses on.
    await expectInterruptions(model as TestModel, request, { ...request, draft: { kind: 'off' } }, [0, 2]);
  });
});

describe('a pass over guesses', () => {
  const prompt = goldenModels.find(({ name }) => name === NAME)?.prompts[2]?.tokenIds ?? [];
  const request: GenerateRequest = {
    tokenIds: prompt,
    maxTokens: 12,
    ignoreEos: true,
    draft: { kind: 'self', tokens: 4 },
  };

  it('that is aborted between its tokens ends with ABORTED, and the engine answers the same afterwards', async () => {
    const { engine } = await openForTest(NAME, SMALLEST);
    const right = (await generate(engine, { ...request, draft: { kind: 'off' } })).result.tokenIds;
    for (let stopAt = 1; stopAt < 4; stopAt++) {
      const controller = new AbortController();
      let tokens = 0;
      const run = async () => {
        for await (const { type } of engine.generate({ ...request, maxTokens: 30 }, controller.signal)) {
          if (type === 'token' && ++tokens === stopAt) controller.abort('enough');
        }
      };
      await expect(run()).rejects.toMatchObject({ code: 'ABORTED' });
      expect((await generate(engine, request)).result.tokenIds).toEqual(right);
    }
  });

  it('and a budget that changes between tokens go together', async () => {
    const { engine } = await openForTest(NAME, SMALLEST);
    const right = (await generate(engine, { ...request, draft: { kind: 'off' } })).result.tokenIds;
    const got: number[] = [];
    for await (const event of engine.generate(request)) {
      if (event.type !== 'token') continue;
      got.push(event.tokenId);
      await engine.setExpertBudget({ percent: got.length % 2 === 0 ? 25 : 60 });
    }
    expect(got).toEqual(right);
  });

  it('is refused with a number of guesses that no pass can check', async () => {
    const { engine } = await openForTest(NAME, { contextLength: 5 });
    for (const tokens of [0, 9, 1.5, Number.NaN]) {
      await expect(generate(engine, { tokenIds: [1], draft: { tokens } })).rejects.toMatchObject({
        code: 'BAD_ARGUMENT',
        message: expect.stringContaining('from 1 to 8'),
      });
    }
    await expect(generate(engine, { tokenIds: [1], draft: { tokens: 8 } })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('more than the 4'),
    });
  });
});
