/**
 * Chats that outlive the page: the texts of questions and answers, newest chat first, in this browser and nowhere else.
 * Owns the form they are kept in and how many; never renders, never asks a model.
 */

export interface KeptTurn {
  readonly role: 'user' | 'assistant';
  readonly text: string;
}

export interface KeptChat {
  readonly id: string;
  readonly turns: readonly KeptTurn[];
}

const KEY = 'webmoe.chats';
const MOST_CHATS = 20;
const MOST_CHARACTERS = 1_000_000;

export type ArchiveStorage = Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;

export class ConversationArchive {
  readonly #storage: ArchiveStorage | null;

  /** @param storage null where the reader has forbidden it: nothing is kept then. */
  constructor(storage: ArchiveStorage | null) {
    this.#storage = storage;
  }

  /** Newest first; what cannot be read is left out. */
  list(): readonly KeptChat[] {
    try {
      const kept: unknown = JSON.parse(this.#storage?.getItem(KEY) ?? '[]');
      return Array.isArray(kept) ? kept.filter(isChat) : [];
    } catch {
      return [];
    }
  }

  /** A chat as it is now: another tab may have gone on with it. */
  find(id: string): KeptChat | undefined {
    return this.list().find((chat) => chat.id === id);
  }

  /**
   * Puts a chat in front, in place of its earlier state. A chat without turns is removed; one that has no room even alone
   * leaves the archive as it was.
   */
  keep(chat: KeptChat): void {
    const others = this.list().filter(({ id }) => id !== chat.id);
    this.#write(chat.turns.length > 0 ? [chat, ...others] : others);
  }

  remove(id: string): void {
    this.#write(this.list().filter((chat) => chat.id !== id));
  }

  /** The oldest chats make room, where the count, the size or the browser asks for it. */
  #write(chats: readonly KeptChat[]): void {
    if (chats.length === 0) this.#storage?.removeItem(KEY);
    for (let count = Math.min(chats.length, MOST_CHATS); count > 0; count--) {
      const text = JSON.stringify(chats.slice(0, count));
      if (text.length > MOST_CHARACTERS) continue;
      try {
        this.#storage?.setItem(KEY, text);
        return;
      } catch {
        // No room in this browser: one chat less.
      }
    }
  }
}

/** What a chat is called in a list. */
export function getTitle({ turns }: KeptChat): string {
  const text =
    turns
      .find(({ role }) => role === 'user')
      ?.text.trim()
      .replaceAll(/\s+/g, ' ') ?? '';
  return text.length > 60 ? `${text.slice(0, 59)}…` : text;
}

function isChat(value: unknown): value is KeptChat {
  const { id, turns } = (value ?? {}) as Partial<KeptChat>;
  if (typeof id !== 'string' || !Array.isArray(turns)) return false;
  return turns.every(isTurn);
}

function isTurn(value: unknown): value is KeptTurn {
  const { role, text } = (value ?? {}) as Partial<KeptTurn>;
  return (role === 'user' || role === 'assistant') && typeof text === 'string';
}
