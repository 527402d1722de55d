/** Chat completions over an engine whose answers are written by the test, and against the openai package's own types. */
import type OpenAI from 'openai';
import { describe, expect, expectTypeOf, it } from 'vitest';
import { createChat } from '../../../src/chat/chat';
import type { ChatCompletion, ChatCompletionChunk, ChatCompletionRequest } from '../../../src/chat/types';
import type { GenerateRequest, LoadedModel } from '../../../src/engine/engine';
import { ScriptedEngine, scriptedModel, scriptedResult, sleep } from '../worker/scripted-engine';

const messages = [{ role: 'user', content: 'Hi' }] as const;
const add = {
  type: 'function',
  function: { name: 'add', parameters: { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] } },
} as const;
type Tools = LoadedModel['tools'];

/** An engine that says these texts, one per token, and keeps what it was asked. */
function speak(texts: readonly string[], tools: Tools = { family: 'hermes', inTemplate: true }, ms = 0) {
  const asked: GenerateRequest[] = [];
  let running = 0;
  const engine = new ScriptedEngine({
    async *generate(request, signal) {
      expect(++running, 'generations at once').toBe(1);
      asked.push(request);
      try {
        yield { type: 'prefill', done: 2, total: 2, reused: 1 };
        for (const [tokenId, text] of texts.entries()) {
          await sleep(ms, signal);
          const logprob = { tokenId, logprob: -0.5, bytes: new TextEncoder().encode(text), top: [] };
          const shown = request.topLogprobs === undefined ? {} : { logprob };
          yield { type: 'token', tokenId, text, residentShare: 1, hitRate: 1, ...shown };
        }
        yield { type: 'done', result: { ...scriptedResult, finishReason: texts.length > 5 ? 'length' : 'stop' } };
      } finally {
        running--;
      }
    },
  });
  engine.model = { ...scriptedModel, tools };
  return { chat: createChat(engine), asked };
}

async function readAll(chunks: AsyncIterable<ChatCompletionChunk>): Promise<ChatCompletionChunk[]> {
  const all: ChatCompletionChunk[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return all;
}

describe('types', () => {
  it('are those of the official client', () => {
    expectTypeOf<ChatCompletion>().toExtend<OpenAI.Chat.ChatCompletion>();
    expectTypeOf<ChatCompletionChunk>().toExtend<OpenAI.Chat.ChatCompletionChunk>();
    // Requests that are written for both.
    const plain = { model: 'm', messages: [{ role: 'user' as const, content: 'Hi' }], temperature: 0.5, seed: 1 };
    expectTypeOf(plain).toExtend<OpenAI.Chat.ChatCompletionCreateParamsNonStreaming>();
    expectTypeOf(plain).toExtend<ChatCompletionRequest>();
    type Fields = Exclude<keyof ChatCompletionRequest, 'top_k' | 'min_p' | 'response_format' | 'messages'>;
    expectTypeOf<Pick<Required<OpenAI.Chat.ChatCompletionCreateParams>, Fields>>().not.toBeNever();
    type Ours = Pick<
      ChatCompletionRequest,
      'stop' | 'seed' | 'logit_bias' | 'stream_options' | 'max_tokens' | 'logprobs'
    >;
    expectTypeOf<Pick<OpenAI.Chat.ChatCompletionCreateParams, keyof Ours>>().toExtend<Ours>();
  });
});

describe('an answer', () => {
  it('has the fields of the API', async () => {
    const { chat } = speak(['Hel', 'lo']);
    const completion = await chat.completions.create({
      messages,
      logprobs: true,
      top_logprobs: 2,
      model: scriptedModel.name,
    });
    expect(completion).toMatchObject({ object: 'chat.completion', model: scriptedModel.name });
    expect(completion.id).toMatch(/^chatcmpl-/);
    expect(completion.choices).toEqual([
      {
        index: 0,
        message: { role: 'assistant', content: 'Hello', refusal: null },
        finish_reason: 'stop',
        logprobs: {
          refusal: null,
          content: ['Hel', 'lo'].map((token) => ({
            token,
            logprob: -0.5,
            bytes: [...new TextEncoder().encode(token)],
            top_logprobs: [],
          })),
        },
      },
    ]);
    const prompt_tokens_details = { cached_tokens: 1 };
    expect(completion.usage).toEqual({
      prompt_tokens: 2,
      prompt_tokens_details,
      completion_tokens: 2,
      total_tokens: 4,
    });
  });

  it('comes in chunks, with usage in the last one when asked for', async () => {
    const { chat } = speak(['a', 'b']);
    const options = { include_usage: true };
    const chunks = await readAll(await chat.completions.create({ messages, stream: true, stream_options: options }));
    expect(chunks.map(({ choices }) => choices[0]?.delta)).toEqual([
      { role: 'assistant', content: '' },
      { content: 'a' },
      { content: 'b' },
      {},
      undefined,
    ]);
    expect(chunks.map(({ choices }) => choices[0]?.finish_reason)).toEqual([null, null, null, 'stop', undefined]);
    expect(chunks.map(({ usage }) => usage?.total_tokens)).toEqual([undefined, undefined, undefined, undefined, 4]);
    expect(chunks.at(-1)?.usage?.prompt_tokens_details).toEqual({ cached_tokens: 1 });
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
    const plain = await readAll(await chat.completions.create({ messages, stream: true }));
    expect(plain.some((chunk) => 'usage' in chunk)).toBe(false);
  });

  it('cut off says so', async () => {
    const { chat } = speak(['1', '2', '3', '4', '5', '6']);
    expect((await chat.completions.create({ messages })).choices[0]?.finish_reason).toBe('length');
  });

  it('calls tools, whole and in deltas', async () => {
    const texts = ['I ', 'add.<tool_', 'call>\n{"name": "add", ', '"arguments": {"a"', ': 1}}\n</tool_call>'];
    const { chat, asked } = speak(texts);
    const completion = await chat.completions.create({ messages, tools: [add] });
    const [choice] = completion.choices;
    expect(choice?.finish_reason).toBe('tool_calls');
    expect(choice?.message.content).toBe('I add.');
    expect(choice?.message.tool_calls).toMatchObject([
      { type: 'function', function: { name: 'add', arguments: '{"a": 1}' } },
    ]);
    expect(asked[0]).toMatchObject({ tools: [{ name: 'add' }], grammar: { kind: 'tagged' }, showMarks: true });

    const chunks = await readAll(await chat.completions.create({ messages, tools: [add], stream: true }));
    const deltas = chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? []);
    expect(deltas[0]).toMatchObject({ index: 0, type: 'function', function: { name: 'add', arguments: '' } });
    expect(deltas[0]?.id).toMatch(/^call_/);
    expect(deltas.slice(1).every((delta) => delta.index === 0 && delta.id === undefined)).toBe(true);
    expect(deltas.map((delta) => delta.function.arguments).join('')).toBe('{"a": 1}');
    expect(deltas.length).toBeGreaterThan(2);
    expect(chunks.at(-1)?.choices[0]?.finish_reason).toBe('tool_calls');
  });

  it('ends behind the first call without parallel calls', async () => {
    const call = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>';
    const { chat } = speak([call, call, call]);
    const completion = await chat.completions.create({ messages, tools: [add], parallel_tool_calls: false });
    expect(completion.choices[0]?.message.tool_calls).toHaveLength(1);
    expect((await chat.completions.create({ messages, tools: [add] })).choices[0]?.message.tool_calls).toHaveLength(3);
  });

  it.each<[Tools['family'], string, string]>([
    ['hermes', '<tool_call>\n', '{"name": "add", "arguments": {"a": 1}}'],
    ['mistral', '[TOOL_CALLS]', '[{"name": "add", "arguments": {"a": 1}}]'],
    ['harmony', '<|channel|>commentary to=functions.add <|constrain|>json<|message|>', '{"a": 1}'],
    ['json', '', '{"name": "add", "arguments": {"a": 1}}'],
  ])('of %s is made a call by tool_choice', async (family, answerStart, text) => {
    const { chat, asked } = speak([...text], { family, inTemplate: true });
    const choice = { type: 'function', function: { name: 'add' } } as const;
    const completion = await chat.completions.create({ messages, tools: [add], tool_choice: choice, max_tokens: 99 });
    expect(completion.choices[0]?.message).toMatchObject({
      content: null,
      tool_calls: [{ function: { arguments: '{"a": 1}' } }],
    });
    expect(asked[0]?.answerStart ?? '').toBe(answerStart);
    expect(asked[0]?.grammar?.kind).toBe('json-schema');
  });

  it('writes tools into the messages of a template that lists none', async () => {
    const { chat, asked } = speak(['ok'], { family: 'json', inTemplate: false });
    const call = { id: 'c1', type: 'function', function: { name: 'add', arguments: '{"a":1}' } } as const;
    await chat.completions.create({
      messages: [
        {
          role: 'developer',
          content: [
            { type: 'text', text: 'Be ' },
            { type: 'text', text: 'short.' },
          ],
        },
        ...messages,
        { role: 'assistant', tool_calls: [call] },
        { role: 'tool', tool_call_id: 'c1', content: '3' },
      ],
      tools: [add],
    });
    expect(asked[0]?.tools).toBeUndefined();
    expect(asked[0]?.messages?.map(({ role }) => role)).toEqual(['system', 'user', 'assistant', 'user']);
    expect(asked[0]?.messages?.[0]?.content).toMatch(/^Be short\.\n\n.*"add"/s);
    expect(asked[0]?.messages?.[2]?.content).toBe('{"name": "add", "arguments": {"a":1}}');
  });
});

describe('a request', () => {
  it.each<[keyof ChatCompletionRequest, Partial<ChatCompletionRequest>, object]>([
    ['temperature', { temperature: 0.3 }, { sampling: { temperature: 0.3 } }],
    ['top_p', { top_p: 0.5 }, { sampling: { topP: 0.5 } }],
    ['top_k', { top_k: 5 }, { sampling: { topK: 5 } }],
    ['min_p', { min_p: 0.1 }, { sampling: { minP: 0.1 } }],
    ['seed', { seed: 7 }, { sampling: { seed: 7 } }],
    ['max_tokens', { max_tokens: 5 }, { maxTokens: 5 }],
    ['max_completion_tokens', { max_completion_tokens: 6 }, { maxTokens: 6 }],
    ['stop', { stop: 'x' }, { stop: ['x'] }],
    ['stop', { stop: ['x', 'y'] }, { stop: ['x', 'y'] }],
    ['frequency_penalty', { frequency_penalty: 1 }, { sampling: { frequencyPenalty: 1 } }],
    ['presence_penalty', { presence_penalty: -1 }, { sampling: { presencePenalty: -1 } }],
    ['logit_bias', { logit_bias: { '3': 5 } }, { sampling: { logitBias: { 3: 5 } } }],
    ['logprobs', { logprobs: true }, { topLogprobs: 0 }],
    ['top_logprobs', { logprobs: true, top_logprobs: 3 }, { topLogprobs: 3 }],
    ['response_format', { response_format: { type: 'json_object' } }, { grammar: { kind: 'json-schema' } }],
    [
      'response_format',
      { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { type: 'null' } } } },
      { grammar: { kind: 'json-schema', schema: { type: 'null' } } },
    ],
    [
      'response_format',
      { response_format: { type: 'regex', pattern: 'a+' } },
      { grammar: { kind: 'regex', pattern: 'a+' } },
    ],
    ['response_format', { response_format: { type: 'ebnf', grammar: 'root ::= "a"' } }, { grammar: { kind: 'ebnf' } }],
    ['tools', { tools: [add] }, { tools: [{ name: 'add' }] }],
    ['tool_choice', { tools: [add], tool_choice: 'required' }, { answerStart: '<tool_call>\n' }],
    ['n', { n: 1, stop: null, seed: null, temperature: null }, { stop: [], sampling: { temperature: 1 } }],
  ])('passes %s on: %j', async (_, body, expected) => {
    const { chat, asked } = speak(['x']);
    await chat.completions.create({ messages, ...body } as ChatCompletionRequest);
    expect(asked[0]).toMatchObject(expected);
  });

  it('takes null for a field that is left out', async () => {
    const { chat, asked } = speak(['x', 'x']);
    const fields = ['model', 'stream', 'stream_options', 'temperature', 'top_p', 'top_k', 'min_p', 'max_tokens'];
    fields.push('max_completion_tokens', 'stop', 'logprobs', 'top_logprobs', 'frequency_penalty', 'presence_penalty');
    fields.push(
      'logit_bias',
      'response_format',
      'tools',
      'tool_choice',
      'parallel_tool_calls',
      'n',
      'prompt_cache_key',
    );
    const nothing = Object.fromEntries(fields.map((name) => [name, null]));
    await chat.completions.create({ messages, seed: 1 });
    await chat.completions.create({ ...nothing, messages, seed: 1 } as unknown as ChatCompletionRequest);
    expect(asked[1]).toEqual(asked[0]);
    await expect(chat.completions.create({ messages: null } as never)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  });

  it('has another seed each time, when it names none', async () => {
    const { chat, asked } = speak(['x']);
    for (let i = 0; i < 4; i++) await chat.completions.create({ messages });
    expect(new Set(asked.map(({ sampling }) => sampling?.seed)).size).toBeGreaterThan(1);
  });

  it('without tools, or with tool_choice none, mentions none', async () => {
    const { chat, asked } = speak(['x']);
    await chat.completions.create({ messages, tools: [add], tool_choice: 'none' });
    expect(asked[0]).not.toHaveProperty('tools');
    expect(asked[0]).not.toHaveProperty('grammar');
  });

  it.each<[string, string, object]>([
    ['UNSUPPORTED', 'audio', { audio: { voice: 'x' } }],
    ['UNSUPPORTED', 'functions', { functions: [] }],
    ['UNSUPPORTED', 'service_tier', { service_tier: 'flex' }],
    ['BAD_ARGUMENT', 'n is 2', { n: 2 }],
    ['BAD_ARGUMENT', 'model is "gpt"', { model: 'gpt' }],
    ['BAD_ARGUMENT', 'needs logprobs', { top_logprobs: 2 }],
    ['BAD_ARGUMENT', '0 to 20', { logprobs: true, top_logprobs: 21 }],
    ['BAD_ARGUMENT', 'needs stream', { stream_options: { include_usage: true } }],
    ['BAD_ARGUMENT', 'max_completion_tokens', { max_tokens: 1, max_completion_tokens: 2 }],
    ['UNSUPPORTED', 'response_format is "x"', { response_format: { type: 'x' } }],
    ['BAD_ARGUMENT', 'beside tools', { tools: [add], response_format: { type: 'json_object' } }],
    ['UNSUPPORTED', 'tools[0]', { tools: [{ type: 'custom' }] }],
    ['BAD_ARGUMENT', 'tools has 0', { tool_choice: 'required' }],
    ['BAD_ARGUMENT', 'tools are add', { tools: [add], tool_choice: { type: 'function', function: { name: 'sub' } } }],
    ['UNSUPPORTED', 'allowed_tools', { tools: [add], tool_choice: { type: 'allowed_tools' } }],
    ['BAD_ARGUMENT', 'messages[0].role', { messages: [{ role: 'function', content: '' }] }],
    ['UNSUPPORTED', '"name"', { messages: [{ role: 'user', content: '', name: 'x' }] }],
    ['UNSUPPORTED', 'image_url', { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }],
    ['BAD_ARGUMENT', 'messages', { messages: 'Hi' }],
  ])('is refused with %s: %s', async (code, part, body) => {
    const { chat, asked } = speak(['x']);
    const request = chat.completions.create({ messages, ...body } as ChatCompletionRequest);
    await expect(request).rejects.toMatchObject({ code, message: expect.stringContaining(part) });
    expect(asked).toHaveLength(0);
  });

  it('without a loaded model is refused', async () => {
    await expect(createChat(new ScriptedEngine({})).completions.create({ messages })).rejects.toMatchObject({
      code: 'NOT_LOADED',
    });
  });
});

describe('several requests', () => {
  it('are served one at a time, conversations in turn', async () => {
    const { chat, asked } = speak(['a'], undefined, 2);
    const ask = (prompt_cache_key: string, content: string) =>
      chat.completions.create({ messages: [{ role: 'user', content }], prompt_cache_key });
    await Promise.all([ask('a', 'a1'), ask('a', 'a2'), ask('a', 'a3'), ask('b', 'b1'), ask('c', 'c1'), ask('b', 'b2')]);
    expect(asked.map(({ messages: sent }) => sent?.[0]?.content)).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'b2']);
  });

  it('do not wait for one that is aborted, left or failed', async () => {
    const { chat } = speak(['a', 'b', 'c'], undefined, 2);
    for await (const chunk of await chat.completions.create({ messages, stream: true })) if (chunk.choices) break;
    const controller = new AbortController();
    const first = chat.completions.create({ messages }, { signal: controller.signal });
    const waiting = new AbortController();
    const second = chat.completions.create({ messages }, { signal: waiting.signal });
    const third = chat.completions.create({ messages });
    waiting.abort();
    await expect(second).rejects.toMatchObject({ code: 'ABORTED' });
    controller.abort();
    await expect(first).rejects.toMatchObject({ code: 'ABORTED' });
    expect((await third).choices[0]?.message.content).toBe('abc');
  });
});
