/** Several tokens by one submission: the tokens, and the state behind them, of one token at a time. */
import { afterAll, describe, expect, it } from 'vitest';
import { catchError, generate, openSession } from './engine-session';

const { engine } = await openSession('e16k4-q4_0');
afterAll(() => engine.unload());

const base = { tokenIds: [3, 40, 77, 9], maxTokens: 30, ignoreEos: true, draft: { kind: 'off' } } as const;

describe('several tokens by one submission', () => {
  it.each([
    ['greedy', { temperature: 0 }],
    ['drawn', { temperature: 1.3, topP: 0.95, seed: 7 }],
  ])('are those of one at a time, %s', async (_, sampling) => {
    const alone = await generate(engine, { ...base, sampling, tokensPerSubmit: 1 });
    const together = await generate(engine, { ...base, sampling, tokensPerSubmit: 5 });
    expect(together.result.tokenIds).toEqual(alone.result.tokenIds);
    expect(together.tokens).toHaveLength(30);
    // 29 tokens behind the prompt's: six submissions instead of 29.
    expect(alone.result.stats.submits).toBe(29);
    expect(together.result.stats.submits).toBe(6);
    expect(together.result.stats.roundTrips).toBe(6);
    expect(together.result.stats.byLayer).toEqual(alone.result.stats.byLayer);
    expect(together.result.stats.draft).toEqual(alone.result.stats.draft);
  });

  it('have the routes of one at a time', async () => {
    const request = { ...base, maxTokens: 12, trace: true };
    const readRoutes = async (tokensPerSubmit: number) => {
      const entries = [];
      let tokenIds: readonly number[] = [];
      for await (const event of engine.generate({ ...request, tokensPerSubmit })) {
        if (event.type === 'routes') entries.push(...event.entries);
        if (event.type === 'done') ({ tokenIds } = event.result);
      }
      return { entries, tokenIds };
    };
    expect(await readRoutes(8)).toEqual(await readRoutes(1));
  });

  it('come one by one where something is read or done between them, or a page is missing', async () => {
    const told = await generate(engine, { ...base, maxTokens: 4, topLogprobs: 0, tokensPerSubmit: 8 });
    expect(told.result.stats.submits).toBe(3);
    await engine.setExpertBudget({ percent: 50 });
    const paged = await generate(engine, { ...base, maxTokens: 4, tokensPerSubmit: 8 });
    expect(paged.result.stats.submits).toBeGreaterThanOrEqual(3);
    expect(paged.result.tokenIds).toEqual(told.result.tokenIds);
  });

  it('outside of 1 to 8 are refused', async () => {
    for (const tokensPerSubmit of [0, 9, 1.5]) {
      const { error } = await catchError(generate(engine, { ...base, tokensPerSubmit }));
      expect(error).toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringContaining('from 1 to 8') });
    }
  });
});
