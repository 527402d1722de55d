/** How a generation ends and what of it is shown, on a model that recites a text. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GenerateRequest } from '../../src/engine/engine';
import { type Generation, generate, openSession, type Session } from './engine-session';
import { cutBytes, writeScriptedModel } from './scripted-model';

const TEXT = 'Grüße, 😀👩‍🚀 €5! The STOP sign. Ende – fin…';
const pieces = cutBytes(TEXT, [1, 2, 1, 3]);
const model = writeScriptedModel(pieces);
/** What follows the first piece. */
const SPOKEN = TEXT.slice(1);

let session: Session;
beforeAll(async () => {
  session = await openSession(model.gguf);
});
afterAll(() => session.engine.unload());

async function recite(request: Omit<GenerateRequest, 'tokenIds'> = {}): Promise<Generation> {
  const generation = await generate(session.engine, { tokenIds: [0], ...request });
  const streamed = generation.tokens.map(({ text }) => text);
  expect(streamed.join('')).toBe(generation.result.text);
  // No half of a surrogate pair.
  for (const text of streamed) expect(text).not.toMatch(/\p{Surrogate}/u);
  expect(generation.tokens.map(({ tokenId }) => tokenId)).toEqual(generation.result.tokenIds);
  expect(generation.result.stats.generatedTokens).toBe(generation.result.tokenIds.length);
  return generation;
}

describe('a generation', () => {
  it('ends at the end token, which is among the ids and not in the text', async () => {
    const { result } = await recite();
    expect(result.finishReason).toBe('stop');
    expect(result.text).toBe(SPOKEN);
    expect(result.tokenIds.at(-1)).toBe(model.endId);
    expect(result.tokenIds).toHaveLength(pieces.length);
  });

  it('never splits a UTF-8 character between events', async () => {
    const { tokens } = await recite();
    for (const { text } of tokens) expect(text).not.toContain('\ufffd');
  });

  it('goes on behind the end token when asked to, which adds no text', async () => {
    const { result } = await recite({ ignoreEos: true, maxTokens: pieces.length + 5 });
    expect(result.finishReason).toBe('length');
    expect(result.tokenIds).toHaveLength(pieces.length + 5);
    expect(result.text.startsWith(`${SPOKEN}Gr`)).toBe(true);
  });

  it.each([1, 2, 7])('of at most %d tokens ends there', async (maxTokens) => {
    const { result } = await recite({ maxTokens });
    expect(result.finishReason).toBe('length');
    expect(result.tokenIds).toEqual(Array.from({ length: maxTokens }, (_, i) => i + 1));
  });

  it('that ends inside a character shows a replacement character for it', async () => {
    const bytes = (count: number) => pieces.slice(1, 1 + count).reduce((sum, piece) => sum + piece.length, 0);
    const spoken = new TextEncoder().encode(SPOKEN);
    for (let maxTokens = 1; maxTokens < 14; maxTokens++) {
      const { result } = await recite({ maxTokens });
      expect(result.text).toBe(new TextDecoder().decode(spoken.subarray(0, bytes(maxTokens))));
    }
  });

  it('ends with the context', async () => {
    const prompt = Array.from({ length: 120 }, (_, i) => i % pieces.length);
    const { result } = await generate(session.engine, { tokenIds: prompt, ignoreEos: true, maxTokens: 100 });
    expect(result.finishReason).toBe('length');
    expect(result.tokenIds).toHaveLength(8);
    expect(result.promptTokenIds).toEqual(prompt);
  });
});

describe('a stop text', () => {
  it('across tokens ends the generation before it', async () => {
    for (const stop of ['STOP', '😀👩', 'ß', 'e STOP s']) {
      const { result } = await recite({ stop: [stop] });
      expect(result.finishReason).toBe('stop');
      expect(result.text).toBe(SPOKEN.slice(0, SPOKEN.indexOf(stop)));
    }
  });

  it('that comes first wins', async () => {
    const { result } = await recite({ stop: ['sign', 'nowhere', '€'] });
    expect(result.text).toBe(SPOKEN.slice(0, SPOKEN.indexOf('€')));
  });

  it('that only begins is shown after all', async () => {
    for (const stop of ['STOP!', 'fin… and more', 'Ende – fin…?']) {
      const { result } = await recite({ stop: [stop] });
      expect(result.text).toBe(SPOKEN);
      expect(result.finishReason).toBe('stop');
    }
  });

  it('that began when the tokens ran out is shown after all', async () => {
    const whole = await recite({ maxTokens: 20 });
    const end = whole.result.text.slice(-3);
    const { result } = await recite({ maxTokens: 20, stop: [`${end} that never comes`] });
    expect(result.text).toBe(whole.result.text);
    expect(result.finishReason).toBe('length');
  });

  it('of no characters is refused', async () => {
    await expect(recite({ stop: [''] })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  });
});

describe('marks and log-probabilities of a stream', () => {
  it('shows special tokens only when asked to, the end token never', async () => {
    const marked = writeScriptedModel([...cutBytes('ab', [1]), new TextEncoder().encode('<|x|>')], 64, [2]);
    const { engine } = await openSession(marked.gguf);
    expect((await generate(engine, { tokenIds: [0] })).result.text).toBe('b');
    expect((await generate(engine, { tokenIds: [0], showMarks: true })).result.text).toBe('b<|x|>');
    await engine.unload();
  });

  it('come with each token, with the bytes of its text', async () => {
    const { tokens, result } = await recite({ topLogprobs: 2 });
    for (const [i, { logprob, tokenId }] of tokens.entries()) {
      expect(logprob).toMatchObject({ tokenId, logprob: result.logprobs[i]?.logprob });
      expect(logprob?.top.map((chance) => [chance.tokenId, chance.logprob])).toEqual(result.logprobs[i]?.top);
      if (tokenId !== model.endId) expect(logprob?.bytes).toEqual(new Uint8Array(pieces[tokenId] as Uint8Array));
    }
  });
});
