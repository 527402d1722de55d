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

  /** Puts a chat in front, in place of its earlier state. A chat without turns is removed. */
  keep(chat: KeptChat): void {
    const others = this.list().filter(({ id }) => id !== chat.id);
    this.#write(chat.turns.length > 0 ? [chat, ...others] : others);
  }

  remove(id: string): void {
    this.#write(this.list().filter((chat) => chat.id !== id));
  }

  /** The oldest chats make room, where the count, the size or the browser asks for it. */
  #write(chats: readonly KeptChat[]): void {
    let kept = chats.slice(0, MOST_CHATS);
    while (kept.length > 0) {
      const text = JSON.stringify(kept);
      try {
        if (text.length <= MOST_CHARACTERS) {
          this.#storage?.setItem(KEY, text);
          return;
        }
      } catch {
        // No room in this browser: one chat less.
      }
      kept = kept.slice(0, -1);
    }
    this.#storage?.removeItem(KEY);
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
  return turns.every(({ role, text }) => (role === 'user' || role === 'assistant') && typeof text === 'string');
}
