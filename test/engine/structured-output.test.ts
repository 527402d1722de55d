/** Grammars through the whole engine: what ended parses and validates, whatever the model, the temperature and the budget. */
import { Ajv } from 'ajv';
import { afterAll, describe, expect, it } from 'vitest';
import type { GenerateRequest } from '../../src/engine/engine';
import { createRandom } from '../unit/random';
import { createRandomSchema } from '../unit/text/random-schema';
import { generate, openSession } from './engine-session';

const isFull = Boolean(import.meta.env.WEBMOE_FULL);
const paged = { expertBudget: { percent: 40 } } as const;
/** Random weights; its vocabulary is the bytes and some marks. */
const tiny = await openSession('e5k1-gqa-q4_0', paged);
const named = await (await fetch('/models/default.json')).json();
const bytes = new Uint8Array(await (await fetch(`/${named.url}`)).arrayBuffer());
const small = await openSession(bytes, { expertBudget: { percent: 50 } });
afterAll(async () => {
  await tiny.engine.unload();
  await small.engine.unload();
});

/** Answers to random schemas; every one that ended is checked. */
async function answer({ engine }: typeof tiny, request: GenerateRequest, schemas: number, firstSeed: number) {
  let ended = 0;
  for (let seed = firstSeed; seed < firstSeed + schemas; seed++) {
    const schema = createRandomSchema(createRandom(seed).number);
    const validate = new Ajv({ strict: false }).compile(schema as object);
    const sampling = { temperature: seed % 2, seed };
    const { result } = await generate(engine, { ...request, sampling, grammar: { kind: 'json-schema', schema } });
    if (result.finishReason === 'length') {
      expect(result.tokenIds.length).toBe(Math.min(request.maxTokens ?? 0, result.tokenIds.length));
      continue;
    }
    ended++;
    expect(validate(JSON.parse(result.text)), `${result.text} against ${JSON.stringify(schema)}`).toBe(true);
  }
  return ended;
}

describe('a JSON schema', () => {
  it('made at random is obeyed by a random model', async () => {
    const schemas = isFull ? 50 : 5;
    expect(await answer(tiny, { tokenIds: [1, 2, 3], maxTokens: 200 }, schemas, 100)).toBeGreaterThan(schemas / 2);
  });

  it('made at random is obeyed by the default model', async () => {
    const schemas = isFull ? 10 : 2;
    const messages = [{ role: 'user', content: 'Tell me about a restaurant.' }] as const;
    expect(await answer(small, { messages, maxTokens: 200 }, schemas, 7)).toBeGreaterThan(0);
  });

  it('gives the same tokens at every budget', async () => {
    const all = await openSession('e5k1-gqa-q4_0');
    const schema = {
      type: 'object',
      properties: { n: { type: 'integer' }, s: { maxLength: 9 } },
      required: ['n', 's'],
    };
    const request: GenerateRequest = {
      tokenIds: [5, 6],
      maxTokens: 60,
      sampling: { temperature: 1, seed: 3, presencePenalty: 1 },
      grammar: { kind: 'json-schema', schema },
    };
    const expected = (await generate(all.engine, request)).result;
    const { result } = await generate(tiny.engine, request);
    expect(result.tokenIds).toEqual(expected.tokenIds);
    expect(result.stats.uploadBytes.demand).toBeGreaterThan(0);
    await all.engine.unload();
  });

  it('gives the same tokens whatever guesses, and leaves guesses where it leaves no choice', async () => {
    const grammar = {
      kind: 'regex',
      pattern: 'the colour is (red|green|blue), (the size|its size) is [1-9]{2}\\.',
    } as const;
    for (const temperature of [0, 1]) {
      const sampling = { temperature, seed: 11, frequencyPenalty: temperature };
      const request: GenerateRequest = { tokenIds: [5, 6], maxTokens: 80, topLogprobs: 1, sampling, grammar };
      const off = (await generate(tiny.engine, { ...request, draft: { kind: 'off' } })).result;
      expect(off.finishReason).toBe('stop');
      for (const kind of ['self', 'ngram', 'auto'] as const) {
        const { tokenIds, text, logprobs, stats } = (await generate(tiny.engine, { ...request, draft: { kind } }))
          .result;
        expect({ tokenIds, text, logprobs }, kind).toEqual({
          tokenIds: off.tokenIds,
          text: off.text,
          logprobs: off.logprobs,
        });
        if (kind === 'self') expect(stats.draft.proposed).toBe(stats.draft.sources.self);
        if (kind !== 'ngram') continue;
        expect(stats.draft.sources.grammar).toBeGreaterThan(3);
        expect(stats.draft.passes).toBeLessThan(off.stats.draft.passes / 2);
      }
    }
  });

  it('that is not done when the tokens are ends by length', async () => {
    const grammar = { kind: 'json-schema', schema: { type: 'string', minLength: 50 } } as const;
    const { result } = await generate(tiny.engine, { tokenIds: [1], maxTokens: 9, grammar });
    expect(result).toMatchObject({ finishReason: 'length' });
    expect(result.tokenIds).toHaveLength(9);
  });

  it('with a keyword that cannot be enforced is refused by name, and the engine is free again', async () => {
    const grammar = { kind: 'json-schema', schema: { type: 'array', uniqueItems: true } } as const;
    const error = { code: 'UNSUPPORTED', message: expect.stringContaining('uniqueItems') };
    await expect(generate(tiny.engine, { tokenIds: [1], grammar })).rejects.toMatchObject(error);
    const both = generate(tiny.engine, { tokenIds: [1], ignoreEos: true, grammar: { kind: 'regex', pattern: 'a' } });
    await expect(both).rejects.toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringContaining('ignoreEos') });
    const regex = { kind: 'regex', pattern: '(yes|no), (yes|no)' } as const;
    expect((await generate(tiny.engine, { tokenIds: [1], grammar: regex })).result.text).toMatch(
      /^(yes|no), (yes|no)$/,
    );
  });
});
