/** Chunks of a chat completion as stream parts of the AI SDK. Owns where texts, thoughts and calls begin and end. */
import type {
  LanguageModelV4FinishReason,
  LanguageModelV4StreamPart,
  LanguageModelV4Usage,
  SharedV4Warning,
} from '@ai-sdk/provider';
import type { ChatCompletionChunk, ChatUsage, FinishReason } from '../chat/types';

type Part = LanguageModelV4StreamPart;

const REASONS: Readonly<Record<FinishReason, LanguageModelV4FinishReason['unified']>> = {
  stop: 'stop',
  length: 'length',
  tool_calls: 'tool-calls',
};

/** What is being written: one text, one thought or one call at a time. */
type Open =
  | { readonly kind: 'text' | 'reasoning'; readonly id: string }
  | { readonly kind: 'call'; readonly id: string; readonly name: string; input: string };

/** @returns parts as they come; cancelling the stream stops the generation. */
export function createPartStream(
  chunks: AsyncIterable<ChatCompletionChunk>,
  warnings: SharedV4Warning[],
  includesRaw: boolean,
): ReadableStream<Part> {
  const parts = getParts(chunks, warnings, includesRaw);
  return new ReadableStream<Part>({
    async pull(controller) {
      try {
        const { value, done } = await parts.next();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        controller.error(error);
      }
    },
    async cancel() {
      await parts.return();
    },
  });
}

async function* getParts(
  chunks: AsyncIterable<ChatCompletionChunk>,
  warnings: SharedV4Warning[],
  includesRaw: boolean,
): AsyncGenerator<Part, void, undefined> {
  yield { type: 'stream-start', warnings };
  let open = null as Open | null;
  let isFirst = true;
  let begun = 0;
  let reason: FinishReason | null = null;
  let usage: ChatUsage | null = null;
  for await (const chunk of chunks) {
    if (isFirst) {
      const { id, created, model } = chunk;
      yield { type: 'response-metadata', id, timestamp: new Date(created * 1000), modelId: model };
      isFirst = false;
    }
    if (includesRaw) yield { type: 'raw', rawValue: chunk };
    usage = chunk.usage ?? usage;
    const [choice] = chunk.choices;
    if (!choice) continue;
    reason = choice.finish_reason ?? reason;
    const { content, reasoning_content: thought, tool_calls: calls = [] } = choice.delta;
    for (const [kind, delta] of [['reasoning', thought] as const, ['text', content] as const]) {
      if (!delta) continue;
      if (open?.kind !== kind) {
        yield* end(open);
        open = { kind, id: String(begun++) };
        yield { type: `${kind}-start`, id: open.id };
      }
      yield { type: `${kind}-delta`, id: open.id, delta };
    }
    for (const call of calls) {
      if (call.id !== undefined) {
        yield* end(open);
        open = { kind: 'call', id: call.id, name: call.function.name ?? '', input: '' };
        yield { type: 'tool-input-start', id: open.id, toolName: open.name };
      }
      if (open?.kind !== 'call' || call.function.arguments === '') continue;
      open.input += call.function.arguments;
      yield { type: 'tool-input-delta', id: open.id, delta: call.function.arguments };
    }
  }
  yield* end(open);
  const finishReason = { unified: reason ? REASONS[reason] : 'interrupted', raw: reason ?? undefined } as const;
  yield { type: 'finish', finishReason, usage: getUsage(usage) };
}

function* end(open: Open | null): Generator<Part, void, undefined> {
  if (!open) return;
  if (open.kind !== 'call') {
    yield { type: `${open.kind}-end`, id: open.id };
    return;
  }
  yield { type: 'tool-input-end', id: open.id };
  // A function without parameters may be called with nothing.
  const input = open.input.trim() === '' ? '{}' : open.input;
  yield { type: 'tool-call', toolCallId: open.id, toolName: open.name, input };
}

function getUsage(usage: ChatUsage | null): LanguageModelV4Usage {
  const cacheRead = usage?.prompt_tokens_details.cached_tokens;
  return {
    inputTokens: {
      total: usage?.prompt_tokens,
      noCache: usage ? usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens : undefined,
      cacheRead,
      // Every prompt is kept, as it is: there is no number of tokens that were written for later.
      cacheWrite: undefined,
    },
    outputTokens: { total: usage?.completion_tokens, text: undefined, reasoning: undefined },
  };
}
