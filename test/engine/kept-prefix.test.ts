/** Prompts that begin as an earlier one did: what is kept changes no bit of what follows. */
import { afterAll, describe, expect, it } from 'vitest';
import { generate, openSession, toBits } from './engine-session';

const { engine } = await openSession('e16k4-q4_0', { expertBudget: { percent: 50 } });
afterAll(() => engine.unload());

const run = async (tokenIds: readonly number[], reusePrefix: boolean) => {
  const { result } = await generate(engine, { tokenIds, maxTokens: 4, ignoreEos: true, topLogprobs: 2, reusePrefix });
  return result;
};

/** Ids that no two prompts share by chance. */
const createIds = (count: number, seed: number): number[] =>
  Array.from({ length: count }, (_, i) => 3 + ((i * i + 7 * i + seed * 31) % 250));

describe('a kept prefix', () => {
  it('of a conversation and of a prompt that parts from it gives the bits of the whole prompt', async () => {
    const first = createIds(40, 1);
    const answer = (await run(first, true)).tokenIds;
    const second = [...first, ...answer, ...createIds(9, 2)];
    const prompts = [
      { tokenIds: second, reused: 32 },
      // What was decoded is not kept, but what the second prompt made of it is.
      { tokenIds: [...second, ...createIds(30, 3)], reused: 48 },
      { tokenIds: [...first.slice(0, 20), ...createIds(13, 4)], reused: 16 },
      // Too short for tiles: nothing of it is the same.
      { tokenIds: first.slice(0, 12), reused: 0 },
    ];
    const kept = [];
    for (const { tokenIds } of prompts) kept.push(await run(tokenIds, true));
    expect(kept.map(({ stats }) => stats.reusedTokens)).toEqual(prompts.map(({ reused }) => reused));
    for (const [i, { tokenIds }] of prompts.entries()) {
      const whole = await run(tokenIds, false);
      expect(whole.stats.reusedTokens).toBe(0);
      expect(kept[i]?.tokenIds, `prompt ${i}`).toEqual(whole.tokenIds);
      expect(toBits(kept[i]?.logprobs ?? []), `prompt ${i}`).toEqual(toBits(whole.logprobs));
    }
  });

  it('is gone when other text has been scored over it', async () => {
    const prompt = createIds(40, 5);
    const whole = await run(prompt, false);
    await engine.score({ tokenIds: createIds(30, 6) });
    const again = await run([...prompt], true);
    expect(again.stats.reusedTokens).toBe(0);
    expect(toBits(again.logprobs)).toEqual(toBits(whole.logprobs));
  });
});
