import { describe, expect, it } from 'vitest';
import { ConversationArchive, getTitle, type KeptChat } from '../../../demo/conversation-archive';
import { MemoryStorage } from './memory-storage';

const chat = (id: string, text = id): KeptChat => ({ id, turns: [{ role: 'user', text }] });
const ids = (archive: ConversationArchive) => archive.list().map(({ id }) => id);

describe('the archive of chats', () => {
  it('has the latest in front, each once, and forgets what is removed or emptied', () => {
    const archive = new ConversationArchive(new MemoryStorage());
    for (const id of ['a', 'b', 'c']) archive.keep(chat(id));
    archive.keep(chat('a', 'more'));
    expect(ids(archive)).toEqual(['a', 'c', 'b']);
    archive.remove('c');
    archive.keep({ id: 'b', turns: [] });
    expect(archive.list()).toEqual([chat('a', 'more')]);
  });

  it('lets the oldest go where there is no room', () => {
    const archive = new ConversationArchive(new MemoryStorage());
    for (let count = 0; count < 25; count++) archive.keep(chat(String(count)));
    expect(ids(archive)).toHaveLength(20);
    expect(ids(archive)[0]).toBe('24');
    const small = new ConversationArchive(new MemoryStorage(300));
    for (let count = 0; count < 5; count++) small.keep(chat(String(count), 'x'.repeat(80)));
    expect(ids(small)).toEqual(['4', '3']);
    // One that never fits costs the others nothing, and does not stay in the way of the next.
    small.keep(chat('huge', 'x'.repeat(1000)));
    expect(ids(small)).toEqual(['4', '3']);
    small.keep(chat('next'));
    expect(ids(small)).toEqual(['next', '4']);
  });

  it('reads nothing from what is spoilt, and works without storage', () => {
    for (const spoilt of ['{', 'null', '[1, {"id": "x", "turns": [{"role": "system", "text": "y"}]}]', '{"id": 1}']) {
      const storage = new MemoryStorage();
      storage.setItem('webmoe.chats', spoilt);
      expect(new ConversationArchive(storage).list()).toEqual([]);
    }
    // One spoilt chat costs the others nothing, also when another is kept.
    for (const spoilt of ['null', '{"id": "x", "turns": [null]}', '{"id": "x", "turns": ["a", 1]}']) {
      const storage = new MemoryStorage();
      storage.setItem('webmoe.chats', `[${JSON.stringify(chat('a'))}, ${spoilt}, ${JSON.stringify(chat('b'))}]`);
      const archive = new ConversationArchive(storage);
      expect(ids(archive)).toEqual(['a', 'b']);
      archive.keep(chat('c'));
      expect(ids(archive)).toEqual(['c', 'a', 'b']);
    }
    const none = new ConversationArchive(null);
    none.keep(chat('a'));
    expect(none.list()).toEqual([]);
  });

  it('calls a chat by the beginning of its first question', () => {
    expect(getTitle(chat('a', '  Book\n a   table '))).toBe('Book a table');
    expect(getTitle(chat('a', 'x'.repeat(100)))).toHaveLength(60);
  });
});
