import { describe, expect, it } from 'vitest';
import { Conversation } from '../../../demo/conversation';
import { ConversationArchive } from '../../../demo/conversation-archive';
import { followOpenChat } from '../../../demo/open-chat';
import type { GenerateEvent } from '../../../src/engine/engine';
import { ScriptedEngine, scriptedResult } from '../worker/scripted-engine';
import { MemoryStorage } from './memory-storage';

async function* answer(): AsyncGenerator<GenerateEvent> {
  yield { type: 'done', result: { ...scriptedResult, text: 'an answer' } };
}

/** A tab that was just opened, reloaded or duplicated. */
function open(shared: MemoryStorage, own: MemoryStorage | null): Conversation {
  const archive = new ConversationArchive(shared);
  const engine = new ScriptedEngine({ generate: answer });
  const onNextFrame = (callback: () => void) => setTimeout(callback, 1);
  const conversation = new Conversation({ engine, archive, hasChatTemplate: () => true, onNextFrame });
  followOpenChat(conversation, archive, own);
  return conversation;
}

const texts = ({ value }: Conversation) => value.turns.map(({ text }) => text);
const questions = (shared: MemoryStorage) =>
  new ConversationArchive(shared)
    .list()
    .map(({ turns }) => turns.flatMap(({ role, text }) => (role === 'user' ? text : [])));

describe('the chat that a tab has open', () => {
  it('is there again after a reload, whatever another tab has done since', async () => {
    const shared = new MemoryStorage();
    const own = new MemoryStorage();
    await open(shared, own).ask('mine');
    await open(shared, new MemoryStorage()).ask('of another tab');
    const reloaded = open(shared, own);
    await expect.poll(() => texts(reloaded)).toEqual(['mine', 'an answer']);
    await reloaded.ask('more');
    expect(questions(shared)).toEqual([['mine', 'more'], ['of another tab']]);
  });

  it('is a new one in a new tab, and after a reload of a new one', async () => {
    const shared = new MemoryStorage();
    const own = new MemoryStorage();
    const first = open(shared, own);
    await first.ask('first');
    expect(texts(open(shared, new MemoryStorage()))).toEqual([]);
    await first.clear();
    const reloaded = open(shared, own);
    await Promise.resolve();
    expect(texts(reloaded)).toEqual([]);
    await reloaded.ask('second');
    expect(questions(shared)).toEqual([['second'], ['first']]);
  });

  it('is the one that was opened again', async () => {
    const shared = new MemoryStorage();
    const own = new MemoryStorage();
    const conversation = open(shared, own);
    for (const question of ['first', 'second']) {
      await conversation.ask(question);
      await conversation.clear();
    }
    const first = new ConversationArchive(shared).list()[1];
    if (first) await conversation.reopen(first);
    const reloaded = open(shared, own);
    await expect.poll(() => texts(reloaded)[0]).toBe('first');
  });

  it('becomes two where a duplicated tab goes on with it too: neither overwrites the other', async () => {
    const shared = new MemoryStorage();
    const own = new MemoryStorage();
    const original = open(shared, own);
    await original.ask('both');
    const copy = new MemoryStorage();
    for (const [key, text] of own.texts) copy.setItem(key, text);
    const duplicate = open(shared, copy);
    await expect.poll(() => texts(duplicate)).toEqual(['both', 'an answer']);
    await duplicate.ask('in the duplicate');
    await original.ask('in the original');
    await duplicate.ask('again');
    expect(questions(shared)).toEqual([
      ['both', 'in the duplicate', 'again'],
      ['both', 'in the original'],
    ]);
    const reloaded = open(shared, own);
    await expect.poll(() => texts(reloaded)[2]).toBe('in the original');
  });

  it('is not remembered without storage, or where it is full', async () => {
    const shared = new MemoryStorage();
    for (const own of [null, new MemoryStorage(0)]) {
      await open(shared, own).ask('mine');
      const reloaded = open(shared, own);
      await Promise.resolve();
      expect(texts(reloaded)).toEqual([]);
    }
    expect(questions(shared)).toEqual([['mine'], ['mine']]);
  });
});
