/**
 * Which chat a tab has open: a reload goes on with that one, whatever other tabs have done since. Owns the note, in
 * storage of the tab's own; conversation-archive.ts has the texts. A duplicated tab begins with a copy of the note, and so
 * with the same chat; as soon as both have gone on with it, it is two (conversation.ts).
 */
import type { Conversation } from './conversation';
import type { ArchiveStorage, ConversationArchive } from './conversation-archive';

const KEY = 'webmoe.openChat';

/**
 * Reopens the tab's chat where the archive has it, and notes from now on which one is open.
 * @param storage of the tab; null where the reader has forbidden it: a reload then begins another chat.
 */
export function followOpenChat(
  conversation: Conversation,
  archive: ConversationArchive,
  storage: ArchiveStorage | null,
): void {
  let noted = storage?.getItem(KEY) ?? null;
  const chat = noted === null ? undefined : archive.find(noted);
  conversation.follow(() => {
    const { chatId } = conversation.value;
    if (chatId === noted) return;
    noted = chatId;
    try {
      storage?.setItem(KEY, chatId);
    } catch {
      // Full: as if there were none.
      storage?.removeItem(KEY);
    }
  });
  if (chat) void conversation.reopen(chat);
}
