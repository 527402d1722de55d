import { describe, expect, it } from 'vitest';
import { type Answer, Conversation, getLatestResidency, getMessages } from '../../../demo/conversation';
import type { GenerateEvent, GenerateRequest } from '../../../src/engine/engine';
import { EngineError } from '../../../src/errors';
import { EndlessStream, ScriptedEngine, scriptedResult, sleep, tokenEvent } from '../worker/scripted-engine';

type Generate = (request: GenerateRequest, signal?: AbortSignal) => AsyncIterable<GenerateEvent>;

function converse(generate: Generate, hasChatTemplate = true): Conversation {
  return new Conversation({
    engine: new ScriptedEngine({ generate }),
    hasChatTemplate: () => hasChatTemplate,
    onNextFrame: (callback) => setTimeout(callback, 1),
  });
}

async function* answerWith(text: string): AsyncGenerator<GenerateEvent> {
  yield { type: 'prefill', done: 2, total: 2 };
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
    await sleep(40);
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
    expect(conversation.value).toEqual({ turns: [], answering: false });
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

  it('keeps the warnings of an answer, and the last map of its experts for the next one', async () => {
    let calls = 0;
    const conversation = converse(async function* (request) {
      expect(request.residency).toBe(true);
      calls += 1;
      if (calls === 1) yield { type: 'warning', message: 'the forecast was forgotten' };
      yield tokenEvent(1, 'x');
      if (calls === 1) yield { type: 'residency', pages: new Uint8Array([0, 1]) };
      if (calls === 1) yield { type: 'residency', pages: new Uint8Array([2, 1]) };
      yield { type: 'done', result: scriptedResult };
    });
    await conversation.ask('first');
    expect(last(conversation).warnings).toEqual(['the forecast was forgotten']);
    await conversation.ask('second');
    expect(last(conversation)).toMatchObject({ residency: null, warnings: [] });
    expect(getLatestResidency(conversation.value.turns)).toEqual(new Uint8Array([2, 1]));
  });

  it('leaves out of the prompt a question that got no answer', () => {
    const answer: Answer = {
      role: 'assistant',
      id: 2,
      text: '',
      phase: 'failed',
      prefill: null,
      live: null,
      residency: null,
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
