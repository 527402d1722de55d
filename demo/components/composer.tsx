/** Where the question is written: Enter sends, Shift+Enter breaks the line, the button stops a running answer. */
import type { RefObject } from 'preact';

interface ComposerProps {
  readonly input: RefObject<HTMLTextAreaElement>;
  readonly draft: string;
  readonly ready: boolean;
  readonly answering: boolean;
  readonly onDraft: (text: string) => void;
  readonly onSend: (text: string) => void;
  readonly onStop: () => void;
}

export function Composer({ input, draft, ready, answering, onDraft, onSend, onStop }: ComposerProps) {
  const canSend = ready && !answering && draft.trim() !== '';
  const send = () => {
    if (canSend) onSend(draft.trim());
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <label class="visually-hidden" for="question">
        Your message
      </label>
      <textarea
        id="question"
        ref={input}
        rows={1}
        value={draft}
        placeholder={ready ? 'Write a message' : 'Write a message; it can be sent when the model is ready'}
        onInput={(event) => onDraft(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
          event.preventDefault();
          send();
        }}
      />
      {answering ? (
        <button type="button" class="primary" onClick={onStop}>
          Stop
        </button>
      ) : (
        <button type="submit" class="primary" disabled={!canSend}>
          Send
        </button>
      )}
    </form>
  );
}
