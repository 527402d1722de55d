/** Storage of a page, in memory; refuses texts that are longer than its limit, as a full browser does. */
import type { ArchiveStorage } from '../../../demo/conversation-archive';

export class MemoryStorage implements ArchiveStorage {
  readonly texts = new Map<string, string>();

  constructor(private readonly mostCharacters = Number.POSITIVE_INFINITY) {}

  getItem(key: string): string | null {
    return this.texts.get(key) ?? null;
  }

  setItem(key: string, text: string): void {
    if (text.length > this.mostCharacters) throw new DOMException('full', 'QuotaExceededError');
    this.texts.set(key, text);
  }

  removeItem(key: string): void {
    this.texts.delete(key);
  }
}
