/** The conversation, oldest first; follows the answer while the reader has not scrolled away. */
import { useLayoutEffect, useRef } from 'preact/hooks';
import type { LoadedModel } from '../../src/index';
import type { ConversationState } from '../conversation';
import { AnswerMessage } from './answer-message';

/** Nearer to the end than this counts as reading along. */
const FOLLOW_DISTANCE_PX = 80;

interface MessageListProps {
  readonly turns: ConversationState['turns'];
  readonly model: LoadedModel | null;
  readonly onRetry: () => void;
  readonly onReloadAndRetry: () => void;
  readonly onNewChat: (firstQuestion?: string) => void;
}

export function MessageList({ turns, model, onRetry, onReloadAndRetry, onNewChat }: MessageListProps) {
  useFollowing(turns);
  const lastId = turns.at(-1)?.id;
  return (
    <div class="messages" role="log" aria-label="Conversation">
      {turns.map((turn, index) =>
        turn.role === 'user' ? (
          <article class="question" key={turn.id}>
            <h2 class="visually-hidden">You</h2>
            <p>{turn.text}</p>
          </article>
        ) : (
          <AnswerMessage
            key={turn.id}
            answer={turn}
            isLast={turn.id === lastId}
            model={model}
            onRetry={onRetry}
            onReloadAndRetry={onReloadAndRetry}
            onNewChat={() => onNewChat()}
            onAskInNewChat={() => onNewChat(turns[index - 1]?.text)}
          />
        ),
      )}
    </div>
  );
}

/** Keeps the page's end in view when it was in view before `content` changed. */
function useFollowing(content: ConversationState['turns']): void {
  const following = useRef(true);
  const count = useRef(0);
  useLayoutEffect(() => {
    const page = document.documentElement;
    const note = () => {
      following.current = page.scrollHeight - page.clientHeight - page.scrollTop < FOLLOW_DISTANCE_PX;
    };
    addEventListener('scroll', note, { passive: true });
    return () => removeEventListener('scroll', note);
  }, []);
  useLayoutEffect(() => {
    // A new turn is the reader's own doing: show it wherever they were.
    if (following.current || content.length !== count.current) scrollTo({ top: document.documentElement.scrollHeight });
    count.current = content.length;
  }, [content]);
}
