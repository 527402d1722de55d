import { describe, expect, it, vi } from 'vitest';
import { type Answer, Conversation, type ConversationOptions, getMessages } from '../../../demo/conversation';
import type { KeptChat } from '../../../demo/conversation-archive';
import { ConversationArchive } from '../../../demo/conversation-archive';
import type { Engine, GenerateEvent, GenerateRequest } from '../../../src/engine/engine';
import { EngineError } from '../../../src/errors';
import { EndlessStream, ScriptedEngine, scriptedResult, sleep, tokenEvent } from '../worker/scripted-engine';
import { MemoryStorage } from './memory-storage';

type Generate = (request: GenerateRequest, signal?: AbortSignal) => AsyncIterable<GenerateEvent>;

function converse(
  generate: Generate,
  hasChatTemplate = true,
  options: Partial<ConversationOptions> = {},
): Conversation {
  return new Conversation({
    engine: new ScriptedEngine({ generate }),
    hasChatTemplate: () => hasChatTemplate,
    onNextFrame: (callback) => setTimeout(callback, 1),
    ...options,
  });
}

function createArchive(): ConversationArchive {
  return new ConversationArchive(new MemoryStorage());
}

async function* answerWith(text: string): AsyncGenerator<GenerateEvent> {
  yield { type: 'prefill', done: 2, total: 2, reused: 0 };
  for (const word of text.split(/(?<= )/)) yield tokenEvent(1, word);
  yield { type: 'done', result: { ...scriptedResult, text } };
}

function last(conversation: Conversation): Answer {
  const turn = conversation.value.turns.at(-1);
  if (turn?.role !== 'assistant') throw new Error('the last turn is no answer');
  return turn;
}

describe('Conversation', () => {
  it('sends the whole conversation with each question', async () => {
    const sent: GenerateRequest[] = [];
    const conversation = converse((request) => {
      sent.push(request);
      return answerWith(`answer ${sent.length}`);
    });
    await conversation.ask('first');
    await conversation.ask('second');
    expect(sent[1]?.messages).toEqual([
      { role: 'user', content: 'first' },
      { role: 'assistant', content: 'answer 1' },
      { role: 'user', content: 'second' },
    ]);
    expect(last(conversation)).toMatchObject({ phase: 'done', text: 'answer 2', result: { finishReason: 'stop' } });
  });

  it('sends the bare text where the model has no chat template', async () => {
    let sent: GenerateRequest | undefined;
    const conversation = converse((request) => {
      sent = request;
      return answerWith('x');
    }, false);
    await conversation.ask('Once upon a time');
    expect(sent).toMatchObject({ prompt: 'Once upon a time' });
    expect(sent).not.toHaveProperty('messages');
  });

  it('shows an answer while it grows, at most once per frame', async () => {
    const conversation = converse(async function* () {
      for (let index = 0; index < 60; index++) {
        if (index % 20 === 19) await sleep(5);
        yield tokenEvent(index, 'x');
      }
      yield { type: 'done', result: { ...scriptedResult, text: 'x'.repeat(60) } };
    });
    const lengths: number[] = [];
    conversation.follow(() => lengths.push(last(conversation).text.length));
    await conversation.ask('go');
    expect(lengths[0]).toBe(0);
    expect(lengths.at(-1)).toBe(60);
    expect(lengths.length).toBeGreaterThanOrEqual(4);
    expect(lengths.length).toBeLessThan(12);
    expect(lengths).toEqual([...lengths].sort((a, b) => a - b));
  });

  it('keeps what was written when it is stopped', async () => {
    const endless = new EndlessStream();
    const conversation = converse((_request, signal) => endless.generate(2, signal));
    const answering = conversation.ask('count');
    await vi.waitFor(() => expect(last(conversation).text).toMatch(/^0 1 2 /), 30_000);
    expect(conversation.value.answering).toBe(true);
    await conversation.stop();
    await answering;
    expect(conversation.value.answering).toBe(false);
    expect(last(conversation)).toMatchObject({ phase: 'stopped', error: null });
    expect(last(conversation).text).toMatch(/^0 1 2 /);
    expect(last(conversation).live?.tokensPerSecond).toBeGreaterThan(0);
  });

  it('takes no second question while it answers', async () => {
    const endless = new EndlessStream();
    const conversation = converse((_request, signal) => endless.generate(2, signal));
    void conversation.ask('one');
    await conversation.ask('two');
    expect(conversation.value.turns.length).toBe(2);
    await conversation.clear();
    expect(conversation.value).toMatchObject({ turns: [], answering: false, residency: null });
    expect(endless.stopped).toBe(true);
  });

  it('shows an error with its code, and answers anew on retry', async () => {
    let calls = 0;
    const conversation = converse(async function* () {
      if (++calls === 1) throw new EngineError('DEVICE_LOST', 'gone');
      yield* answerWith('fine');
    });
    await conversation.ask('hello');
    expect(last(conversation)).toMatchObject({ phase: 'failed', error: { code: 'DEVICE_LOST', message: 'gone' } });
    await conversation.retry();
    expect(conversation.value.turns.length).toBe(2);
    expect(last(conversation)).toMatchObject({ phase: 'done', text: 'fine', error: null });
  });

  it('keeps the warnings of an answer, and the last map of its experts until another comes, also between answers', async () => {
    let calls = 0;
    let tell: Parameters<Engine['watchMemory']>[0] = () => {};
    const generate: Generate = async function* (request) {
      expect(request.residency).toBe(true);
      calls += 1;
      if (calls === 1) yield { type: 'warning', message: 'the forecast was forgotten' };
      yield tokenEvent(1, 'x');
      if (calls === 1) yield { type: 'residency', pages: new Uint8Array([0, 1]) };
      if (calls === 1) yield { type: 'residency', pages: new Uint8Array([2, 1]) };
      yield { type: 'done', result: scriptedResult };
    };
    const watchMemory: Engine['watchMemory'] = (listener) => {
      tell = listener;
      return () => {};
    };
    const engine = new ScriptedEngine({ generate, watchMemory });
    const conversation = converse(generate, true, { engine });
    expect(conversation.value.residency).toBeNull();
    await conversation.ask('first');
    expect(last(conversation).warnings).toEqual(['the forecast was forgotten']);
    await conversation.ask('second');
    expect(last(conversation).warnings).toEqual([]);
    expect(conversation.value.residency).toEqual(new Uint8Array([2, 1]));
    const on = { slotsPerLayer: 1, plannedGpuBytes: 8, usedGpuBytes: 8, device: { adapter: 'none', variants: {} } };
    const shrunk = { ...on, residency: new Uint8Array([1, 0]) };
    tell({ cause: 'budget', message: null, ...shrunk });
    expect(conversation.value.residency).toEqual(new Uint8Array([1, 0]));
    expect(conversation.value.turns).toHaveLength(4);
  });

  it('is made by the settings of the moment, the system prompt first', async () => {
    const sent: GenerateRequest[] = [];
    let settings = { systemPrompt: '', temperature: 0.6, topP: 0.9, maxTokens: 64 };
    const generate: Generate = (request) => {
      sent.push(request);
      return answerWith('yes');
    };
    const conversation = converse(generate, true, { getSettings: () => settings });
    await conversation.ask('first');
    settings = { systemPrompt: 'Be brief', temperature: 0, topP: 1, maxTokens: 16 };
    await conversation.ask('second');
    expect(sent[0]?.messages).toHaveLength(1);
    expect(sent[1]?.messages?.[0]).toEqual({ role: 'system', content: 'Be brief' });
    expect(sent[1]?.messages).toHaveLength(4);
    expect(sent[1]).toMatchObject({ maxTokens: 16, sampling: { temperature: 0, topP: 1 } });
  });

  it('is kept in the archive and goes on from there', async () => {
    const archive = createArchive();
    const sent: GenerateRequest[] = [];
    const generate: Generate = (request) => {
      sent.push(request);
      return answerWith('an answer');
    };
    const before = converse(generate, true, { archive });
    await before.ask('first');
    await before.clear();
    await before.ask('another');
    expect(archive.list().map(({ turns }) => turns[0]?.text)).toEqual(['another', 'first']);

    const after = converse(generate, true, { archive });
    await after.reopen(archive.list()[1] as KeptChat);
    expect(after.value.turns.map(({ text }) => text)).toEqual(['first', 'an answer']);
    await after.ask('second');
    expect(sent.at(-1)?.messages?.map(({ content }) => content)).toEqual(['first', 'an answer', 'second']);
    // The same chat, in front now, and not a copy of it.
    expect(archive.list().map(({ turns }) => turns.length)).toEqual([4, 2]);
  });

  it('left while it was answered comes back with its question', async () => {
    const archive = createArchive();
    archive.keep({ id: 'left', turns: [{ role: 'user', text: 'unanswered' }] });
    const conversation = converse(() => answerWith('late'), true, { archive });
    await conversation.reopen(archive.list()[0] as KeptChat);
    expect(last(conversation)).toMatchObject({ phase: 'stopped', text: '' });
    await conversation.retry();
    expect(last(conversation).text).toBe('late');
  });

  it('leaves out of the prompt a question that got no answer', () => {
    const answer: Answer = {
      role: 'assistant',
      id: 2,
      text: '',
      phase: 'failed',
      prefill: null,
      live: null,
      warnings: [],
      result: null,
      error: new EngineError('BUSY', 'busy'),
    };
    const turns = [
      { role: 'user', id: 1, text: 'lost' } as const,
      answer,
      { role: 'user', id: 3, text: 'kept' } as const,
    ];
    expect(getMessages(turns)).toEqual([{ role: 'user', content: 'kept' }]);
  });
});
