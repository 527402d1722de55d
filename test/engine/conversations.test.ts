/** Chat completions on a real model: conversations side by side, and the engine's answers in the API's shape. */
import { afterAll, describe, expect, it } from 'vitest';
import { createChat } from '../../src/chat/chat';
import type { ChatCompletionMessageParam } from '../../src/chat/types';
import { loadModel, openSession } from './engine-session';

const MODEL = 'e16k4-q4_0';
const OPTIONS = { expertBudget: { percent: 50 } };
const { engine, loaded } = await openSession(MODEL, OPTIONS);
const chat = createChat(engine);
afterAll(() => engine.unload());

type Messages = ChatCompletionMessageParam[];

/** Answers, and how many tokens of each prompt were kept. */
async function continueConversation(key: string, turns: number): Promise<{ answers: string[]; cached: number[] }> {
  const messages: Messages = [];
  const answers: string[] = [];
  const cached: number[] = [];
  for (let turn = 0; turn < turns; turn++) {
    messages.push({ role: 'user', content: `${key} has this to say, and it says it: ${turn}` });
    const chunks = await chat.completions.create({
      messages,
      stream: true,
      stream_options: { include_usage: true },
      seed: turn,
      max_tokens: 6,
      prompt_cache_key: key,
    });
    let content = '';
    for await (const chunk of chunks) {
      content += chunk.choices[0]?.delta.content ?? '';
      if (chunk.usage) cached.push(chunk.usage.prompt_tokens_details.cached_tokens);
    }
    messages.push({ role: 'assistant', content });
    answers.push(content);
  }
  return { answers, cached };
}

describe('conversations', () => {
  it('side by side get the tokens that each gets alone', async () => {
    const alone = [await continueConversation('one', 2), await continueConversation('two', 2)];
    // Nothing of them is kept when they begin again, side by side.
    await loadModel(engine, MODEL, OPTIONS);
    const together = await Promise.all([continueConversation('one', 2), continueConversation('two', 2)]);
    expect(together.map(({ answers }) => answers)).toEqual(alone.map(({ answers }) => answers));
    expect(alone[0]?.answers).not.toEqual(alone[1]?.answers);
    for (const { cached } of together) expect(cached.map((tokens) => tokens > 0)).toEqual([expect.anything(), true]);
    expect(together.map(({ cached }) => cached[1])).toEqual(alone.map(({ cached }) => cached[1]));
  });

  it('report usage and log-probabilities as the engine counts them', async () => {
    const messages: Messages = [{ role: 'user', content: 'Hello' }];
    const request = { messages, max_tokens: 4, temperature: 0, logprobs: true, top_logprobs: 2 } as const;
    const { choices, usage, model } = await chat.completions.create(request);
    expect(model).toBe(loaded.name);
    const content = choices[0]?.logprobs?.content ?? [];
    expect(content).toHaveLength(usage.completion_tokens);
    for (const { logprob, top_logprobs } of content) expect(top_logprobs[0]?.logprob).toBe(logprob);
    expect(usage.total_tokens).toBe(usage.prompt_tokens + usage.completion_tokens);
    // The same prompt again is kept, as far as whole tiles of it go.
    const long = { ...request, messages: [{ role: 'user' as const, content: 'Hello '.repeat(6) }] };
    await chat.completions.create(long);
    const again = (await chat.completions.create(long)).usage;
    expect(again.prompt_tokens_details.cached_tokens).toBeGreaterThanOrEqual(16);
    expect(again.prompt_tokens_details.cached_tokens).toBeLessThan(again.prompt_tokens);
    // A bias on every other token leaves only the one it spares.
    const biased = await chat.completions.create({
      messages,
      max_tokens: 3,
      temperature: 1,
      logit_bias: { '65': 100 },
    });
    expect(biased.choices[0]?.message.content).toHaveLength(3);
    expect(new Set(biased.choices[0]?.message.content ?? '').size).toBe(1);
  });

  it('make a call where a call is asked for', async () => {
    const parameters = { type: 'object', properties: { day: { enum: ['Monday', 'Friday'] } }, required: ['day'] };
    const named = await (await fetch('/models/default.json')).json();
    const bytes = new Uint8Array(await (await fetch(`/${named.url}`)).arrayBuffer());
    const small = await openSession(bytes, { expertBudget: { percent: 50 } });
    const completion = await createChat(small.engine).completions.create({
      messages: [{ role: 'user', content: 'Book it' }],
      tools: [{ type: 'function', function: { name: 'book', parameters } }],
      tool_choice: 'required',
      seed: 1,
    });
    expect(completion.choices[0]?.finish_reason).toBe('tool_calls');
    const [call] = completion.choices[0]?.message.tool_calls ?? [];
    expect(call?.function.name).toBe('book');
    expect(JSON.parse(call?.function.arguments ?? '')).toEqual({ day: expect.stringMatching(/^(Monday|Friday)$/) });
    await small.engine.unload();
  });
});
