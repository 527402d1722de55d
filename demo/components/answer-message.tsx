/** One answer: its Markdown, what it cost, and the ways on when it ended early. */
import { useLayoutEffect, useRef } from 'preact/hooks';
import type { LoadedModel } from '../../src/index';
import type { Answer } from '../conversation';
import { renderMarkdown } from '../markdown';
import { formatCount } from '../numbers';
import { AnswerStats } from './answer-stats';
import { ErrorNotice } from './error-notice';
import { PagingDetails } from './paging-details';

interface AnswerMessageProps {
  readonly answer: Answer;
  /** Only the last answer can be asked for again. */
  readonly isLast: boolean;
  /** Null while none is loaded. */
  readonly model: LoadedModel | null;
  readonly onRetry: () => void;
  readonly onReloadAndRetry: () => void;
  readonly onNewChat: () => void;
  readonly onAskInNewChat: () => void;
}

export function AnswerMessage(props: AnswerMessageProps) {
  const { answer } = props;
  const streaming = answer.phase === 'reading' || answer.phase === 'writing';
  return (
    // Busy while it streams: a screen reader then reads the answer once, whole, and not at every token.
    <article class="answer" data-phase={answer.phase} aria-busy={streaming}>
      <h2 class="visually-hidden">Answer</h2>
      {answer.text && <Markdown text={answer.text} />}
      {answer.phase === 'reading' && <p class="quiet waiting">{getReadingText(answer)}</p>}
      {answer.phase === 'done' && !answer.text && <p class="quiet">The model ended without writing anything.</p>}
      {answer.phase === 'stopped' && <Stopped {...props} />}
      {answer.phase === 'failed' && answer.error && <Failure {...props} />}
      {answer.phase === 'done' && <LengthNote {...props} />}
      {answer.warnings.map((warning) => (
        <p class="note" key={warning}>
          {warning}
        </p>
      ))}
      <AnswerStats answer={answer} />
      {answer.result && <PagingDetails stats={answer.result.stats} model={props.model} />}
    </article>
  );
}

function Markdown({ text }: { readonly text: string }) {
  const element = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    element.current?.replaceChildren(renderMarkdown(text));
  }, [text]);
  return <div class="markdown" ref={element} />;
}

/** By the reader, or because the page was left. */
function Stopped({ isLast, model, onRetry }: AnswerMessageProps) {
  return (
    <>
      <p class="quiet">Stopped.</p>
      {isLast && model && (
        <p class="buttons">
          <button type="button" onClick={onRetry}>
            Try again
          </button>
        </p>
      )}
    </>
  );
}

function Failure({ answer, isLast, onRetry, onReloadAndRetry, onAskInNewChat }: AnswerMessageProps) {
  if (!answer.error) return null;
  return (
    <ErrorNotice error={answer.error}>{isLast && <p class="buttons">{getRemedy(answer.error.code)}</p>}</ErrorNotice>
  );

  function getRemedy(code: string) {
    switch (code) {
      case 'CONTEXT_OVERFLOW':
        return (
          <button type="button" class="primary" onClick={onAskInNewChat}>
            Ask this in a new chat
          </button>
        );
      case 'WORKER_DEAD':
      case 'DEVICE_LOST':
      case 'GPU_ERROR':
      case 'NOT_LOADED':
        return (
          <button type="button" class="primary" onClick={onReloadAndRetry}>
            Load the model again and retry
          </button>
        );
      default:
        return (
          <button type="button" class="primary" onClick={onRetry}>
            Try again
          </button>
        );
    }
  }
}

function LengthNote({ answer, isLast, model, onNewChat }: AnswerMessageProps) {
  const contextLength = model?.contextLength ?? null;
  if (answer.result?.finishReason !== 'length') return null;
  const { promptTokens, generatedTokens } = answer.result.stats;
  if (contextLength === null || promptTokens + generatedTokens < contextLength) {
    return <p class="quiet">Cut here: an answer may have {formatCount(generatedTokens)} tokens.</p>;
  }
  return (
    <div class="note">
      <p>
        Cut here: the conversation has filled the model’s context of {formatCount(contextLength)} tokens. It cannot go
        on in this chat.
      </p>
      {isLast && (
        <p class="buttons">
          <button type="button" onClick={onNewChat}>
            New chat
          </button>
        </p>
      )}
    </div>
  );
}

function getReadingText({ prefill }: Answer): string {
  if (!prefill || prefill.total === 0) return 'Reading…';
  return `Reading: ${prefill.done} of ${prefill.total} tokens`;
}
