/** Earlier chats: open one again, or remove it. */
import { getTitle, type KeptChat } from '../conversation-archive';

interface KeptChatsProps {
  readonly chats: readonly KeptChat[];
  readonly onOpen: (chat: KeptChat) => void;
  readonly onRemove: (chat: KeptChat) => void;
}

export function KeptChats({ chats, onOpen, onRemove }: KeptChatsProps) {
  if (chats.length === 0) return null;
  return (
    <section class="kept-chats" aria-labelledby="kept-chats-title">
      <h3 id="kept-chats-title">Earlier chats</h3>
      <p class="quiet">Kept in this browser only.</p>
      <ul>
        {chats.map((chat) => (
          <li key={chat.id}>
            <button type="button" class="kept-chat" onClick={() => onOpen(chat)}>
              {getTitle(chat)}
            </button>
            <button type="button" aria-label={`Remove “${getTitle(chat)}”`} onClick={() => onRemove(chat)}>
              ×
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
