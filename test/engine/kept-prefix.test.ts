/** Prompts that begin as an earlier one did: what is kept changes no bit of what follows. */
import { afterAll, describe, expect, it } from 'vitest';
import type { Engine, LoadOptions } from '../../src/engine/engine';
import { readGoldenModel } from '../golden';
import { loadArchitecture } from '../golden/architectures';
import { catchError, generate, loadModel, openSession, toBits } from './engine-session';

const { engine } = await openSession('e16k4-q4_0', { expertBudget: { percent: 50 } });
afterAll(() => engine.unload());

const run = async (tokenIds: readonly number[], reusePrefix: boolean, asked: Engine = engine) => {
  const { result } = await generate(asked, { tokenIds, maxTokens: 4, ignoreEos: true, topLogprobs: 2, reusePrefix });
  return result;
};

/** Ids that no two prompts share by chance. */
const createIds = (count: number, seed: number): number[] =>
  Array.from({ length: count }, (_, i) => 3 + ((i * i + 7 * i + seed * 31) % 250));

/** Context of models with rings: longer than a chunk of 256 rows and a window, so that the rings go round. */
const LONG_CONTEXT = 400;
const readArchitecture = async (name: string): Promise<Uint8Array<ArrayBuffer>> => {
  const bytes = (await loadArchitecture(name))[0]?.gguf.slice() as Uint8Array<ArrayBuffer>;
  const key = new TextEncoder().encode('.context_length');
  const at = bytes.findIndex((_, i) => key.every((byte, j) => bytes[i + j] === byte)) + key.length;
  // The value's type comes first.
  new DataView(bytes.buffer).setUint32(at + 4, LONG_CONTEXT, true);
  return bytes;
};

const isFull = Boolean(import.meta.env.WEBMOE_FULL);
type Kind = readonly [claim: string, read: () => Promise<Uint8Array<ArrayBuffer>>, tokens: number, own: LoadOptions];
const KINDS: readonly Kind[] = [
  ['plain attention', () => readGoldenModel('e16k4-q4_0'), 70, {}],
  ['a sliding window, its ring gone round', () => readArchitecture('gpt_oss'), 300, {}],
  ['a convolution, its ring gone round, q8', () => readArchitecture('lfm2moe'), 300, { kvType: 'q8' }],
  ['a sliding window, q8', () => readArchitecture('gpt_oss'), 300, { kvType: 'q8' }],
  ['plain attention, f16', () => readGoldenModel('e16k4-q4_0'), 70, { kvType: 'f16' }],
  ['latents, f16', () => readArchitecture('deepseek2'), 70, { kvType: 'f16' }],
];

describe.each(KINDS.slice(0, isFull ? KINDS.length : 3))('conversations in turns, %s', (_, read, tokens, own) => {
  it('find each its own beginning, bit for bit', async () => {
    const session = await openSession(await read(), { expertBudget: { percent: 50 }, ...own });
    const ids = (count: number, seed: number): number[] => createIds(count, seed).map((id) => id % 45);
    const system = ids(32, 9);
    const texts = [1, 2].map((seed) => [...system, ...ids(tokens - 32, seed)]);
    const turns: { asked: number[]; result: Awaited<ReturnType<typeof run>> }[] = [];
    for (let turn = 0; turn < 3; turn++) {
      for (const [i, text] of texts.entries()) {
        const result = await run(text, true, session.engine);
        turns.push({ asked: [...text], result });
        text.push(...result.tokenIds, ...ids(20, 10 + turn + i));
      }
    }
    const reused = turns.map(({ result }) => result.stats.reusedTokens);
    // The second conversation begins as the first one does, which a ring has left behind; later each has all of its own
    // prompt before, in whole tiles.
    const toTile = (length: number) => Math.floor((length % 256) / 16) * 16 + Math.floor(length / 256) * 256;
    const before = turns.slice(0, 4).map(({ asked }) => toTile(asked.length));
    expect(reused).toEqual([0, tokens > 256 ? 0 : 32, ...before]);
    const { prefixCache } = turns.at(-1)?.result.stats ?? {};
    expect(prefixCache?.count).toBe(2);
    expect(prefixCache?.restoredBytes).toBeGreaterThan(0);
    expect(prefixCache?.savedBytes).toBeGreaterThan(0);
    for (const [i, { asked, result }] of turns.slice(2).entries()) {
      const whole = await run(asked, false, session.engine);
      expect(whole.stats.reusedTokens).toBe(0);
      expect(result.tokenIds, `turn ${i}`).toEqual(whole.tokenIds);
      expect(toBits(result.logprobs), `turn ${i}`).toEqual(toBits(whole.logprobs));
    }
    await session.engine.unload();
  });
});

describe('prefixes in host RAM', () => {
  /** Five prompts of 64 tokens, then the second and the first again. */
  const fill = async (options: LoadOptions) => {
    await loadModel(engine, 'e16k4-q4_0', options);
    for (let seed = 20; seed < 25; seed++) await run(createIds(64, seed), true);
    const last = [];
    for (const seed of [24, 23, 20]) last.push((await run([...createIds(64, seed), 7, 8, 9], true)).stats);
    return { reused: last.map(({ reusedTokens }) => reusedTokens), ...last.at(-1)?.prefixCache };
  };

  it('stay within their count and their bytes, the least recently used leave', async () => {
    const all = await fill({});
    expect(all).toMatchObject({ reused: [64, 64, 64], count: 5 });
    const oneBytes = (all.usedBytes as number) / 5;
    expect(await fill({ prefixCacheCount: 2 })).toMatchObject({ reused: [64, 64, 0], count: 2 });
    const few = await fill({ prefixCacheBytes: Math.floor(oneBytes * 2.5) });
    expect(few).toMatchObject({ reused: [64, 64, 0], count: 2, usedBytes: oneBytes * 2 });
    const none = await fill({ prefixCacheBytes: 0 });
    expect(none).toMatchObject({ reused: [64, 0, 0], count: 0, usedBytes: 0, savedBytes: 0, restoredBytes: 0 });
    await loadModel(engine, 'e16k4-q4_0', { expertBudget: { percent: 50 } });
  });

  it('are refused out of range before anything is loaded', async () => {
    const { error } = await catchError(loadModel(engine, 'e16k4-q4_0', { prefixCacheBytes: -1 }));
    expect(error).toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringContaining('prefixCacheBytes -1') });
    await loadModel(engine, 'e16k4-q4_0', { expertBudget: { percent: 50 } });
  });
});

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

  it('comes back when other text has been scored over it', async () => {
    const prompt = createIds(40, 5);
    const whole = await run(prompt, false);
    await engine.score({ tokenIds: createIds(30, 6) });
    const again = await run([...prompt], true);
    expect(again.stats.reusedTokens).toBe(32);
    expect(toBits(again.logprobs)).toEqual(toBits(whole.logprobs));
  });
});
