/**
 * Chat completions in the shape of OpenAI's API, over any Engine. Owns the queue of requests and the form of answers; the
 * engine does the rest.
 */
import type { Engine, GenerateEvent, StreamedLogprob } from '../engine/engine';
import { EngineError } from '../errors';
import { type ChatPlan, planChat } from './request';
import { type AnswerPart, createToolParser } from './tool-parser';
import { TurnQueue } from './turn-queue';
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  ChatDelta,
  ChatLogprobs,
  ChatTokenLogprob,
  ChatUsage,
  FinishReason,
  PlainRequest,
  StreamingRequest,
} from './types';

/** Beside a request. */
export interface ChatOptions {
  readonly signal?: AbortSignal;
}

/** `engine.chat.completions.create` is what `client.chat.completions.create` is in the openai package. */
export interface Chat {
  readonly completions: {
    /**
     * Answers a conversation. Requests are served one at a time; those of different conversations (`prompt_cache_key`) take
     * turns. Leaving the loop over a stream stops the generation.
     * @throws EngineError `UNSUPPORTED` and `BAD_ARGUMENT` naming the field, `ABORTED`, and what the engine throws.
     */
    create(request: StreamingRequest, options?: ChatOptions): Promise<AsyncIterable<ChatCompletionChunk>>;
    /** The same, answered whole. */
    create(request: PlainRequest, options?: ChatOptions): Promise<ChatCompletion>;
    /** The same, where `stream` is known at run time alone. */
    create(
      request: ChatCompletionRequest,
      options?: ChatOptions,
    ): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>>;
  };
}

/** One step of an answer. */
interface Step {
  readonly parts: readonly AnswerPart[];
  readonly logprobs: ChatLogprobs | null;
  /** With the last step. */
  readonly end?: { readonly reason: FinishReason; readonly usage: ChatUsage };
}

/** Chat completions over an engine that has none of its own, such as one in process. */
export function createChat(engine: Engine): Chat {
  const queue = new TurnQueue();
  async function create(request: PlainRequest, options?: ChatOptions): Promise<ChatCompletion>;
  async function create(request: StreamingRequest, options?: ChatOptions): Promise<AsyncIterable<ChatCompletionChunk>>;
  async function create(
    request: ChatCompletionRequest,
    options?: ChatOptions,
  ): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>>;
  async function create(
    request: ChatCompletionRequest,
    { signal }: ChatOptions = {},
  ): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>> {
    const { model } = engine;
    if (!model) throw new EngineError('NOT_LOADED', 'no model is loaded: call load first');
    const plan = planChat(request, model);
    const identity = {
      id: `chatcmpl-${crypto.randomUUID()}`,
      created: Math.floor(Date.now() / 1000),
      model: model.name,
    };
    const steps = answer(engine, queue, plan, signal);
    if (!plan.isStreamed) return collect(steps, identity, plan);
    const chunks = stream(steps, identity, plan);
    // Waits for the first chunk: what the engine refuses is thrown here, not in the loop.
    const first = await chunks.next();
    return (async function* () {
      try {
        if (!first.done) yield first.value;
        yield* chunks;
      } finally {
        await chunks.return();
      }
    })();
  }
  return { completions: { create } };
}

async function* answer(
  engine: Engine,
  queue: TurnQueue,
  plan: ChatPlan,
  signal: AbortSignal | undefined,
): AsyncGenerator<Step, void, undefined> {
  const family = engine.model?.tools.family ?? 'json';
  const endTurn = await queue.take(plan.conversation, signal);
  try {
    const parser = createToolParser(family, plan.toolNames);
    // How the answer has to begin may be part of a call already.
    let begun = parser.push(plan.parserStart);
    let calls = 0;
    let tokens = 0;
    let prompt = { total: 0, reused: 0 };
    /** Without parallel calls, what comes before the second one. */
    const take = (parts: readonly AnswerPart[]): readonly AnswerPart[] => {
      const taken: AnswerPart[] = [];
      for (const part of [...begun, ...parts]) {
        if (part.kind === 'call') calls++;
        if (!plan.endsAfterCall || calls < 2) taken.push(part);
      }
      begun = [];
      return taken;
    };
    const end = (reason: 'stop' | 'length'): NonNullable<Step['end']> => ({
      reason: calls > 0 && reason === 'stop' ? 'tool_calls' : reason,
      usage: {
        prompt_tokens: prompt.total,
        prompt_tokens_details: { cached_tokens: prompt.reused },
        completion_tokens: tokens,
        total_tokens: prompt.total + tokens,
      },
    });
    for await (const event of engine.generate(plan.request, signal)) {
      if (event.type === 'prefill') prompt = event;
      else if (event.type === 'token') {
        tokens++;
        yield { parts: take(parser.push(event.text)), logprobs: getLogprobs(event) };
        if (!plan.endsAfterCall || calls < 2) continue;
        yield { parts: [], logprobs: null, end: end('stop') };
        return;
      } else if (event.type === 'done') {
        yield { parts: take(parser.flush()), logprobs: null, end: end(event.result.finishReason) };
      }
    }
  } finally {
    endTurn();
  }
}

function getLogprobs({ logprob }: Extract<GenerateEvent, { type: 'token' }>): ChatLogprobs | null {
  if (!logprob) return null;
  const toToken = ({ bytes, logprob: value }: Pick<StreamedLogprob, 'bytes' | 'logprob'>) => ({
    token: new TextDecoder().decode(bytes),
    logprob: value,
    bytes: [...bytes],
  });
  const token: ChatTokenLogprob = { ...toToken(logprob), top_logprobs: logprob.top.map(toToken) };
  return { content: [token], refusal: null };
}

type Identity = Pick<ChatCompletion, 'id' | 'created' | 'model'>;

async function collect(steps: AsyncIterable<Step>, identity: Identity, plan: ChatPlan): Promise<ChatCompletion> {
  const texts = { text: '', reasoning: '' };
  const calls: { name: string; arguments: string }[] = [];
  const logprobs: ChatTokenLogprob[] = [];
  let end: Step['end'];
  for await (const step of steps) {
    for (const part of step.parts) {
      if (part.kind === 'call') calls.push({ name: part.name, arguments: '' });
      else if (part.kind !== 'arguments') texts[part.kind] += part.text;
      else {
        const last = calls.at(-1);
        if (last) last.arguments += part.text;
      }
    }
    logprobs.push(...(step.logprobs?.content ?? []));
    end = step.end ?? end;
  }
  if (!end) throw new EngineError('INTERNAL', 'the generation ended without a result');
  return {
    object: 'chat.completion',
    ...identity,
    choices: [
      {
        index: 0,
        message: {
          role: 'assistant',
          content: calls.length > 0 && texts.text.trim() === '' ? null : texts.text,
          refusal: null,
          ...(texts.reasoning !== '' && { reasoning_content: texts.reasoning }),
          ...(calls.length > 0 && {
            tool_calls: calls.map((call) => ({ id: createCallId(), type: 'function' as const, function: call })),
          }),
        },
        finish_reason: end.reason,
        logprobs: plan.request.topLogprobs === undefined ? null : { content: logprobs, refusal: null },
      },
    ],
    usage: end.usage,
  };
}

function createCallId(): string {
  return `call_${crypto.randomUUID().replaceAll('-', '').slice(0, 24)}`;
}

async function* stream(
  steps: AsyncIterable<Step>,
  identity: Identity,
  plan: ChatPlan,
): AsyncGenerator<ChatCompletionChunk, void, undefined> {
  const usage = plan.includesUsage ? { usage: null } : {};
  const getChunk = (
    delta: ChatDelta,
    logprobs: ChatLogprobs | null = null,
    finish_reason: FinishReason | null = null,
  ): ChatCompletionChunk => ({
    object: 'chat.completion.chunk',
    ...identity,
    choices: [{ index: 0, delta, finish_reason, logprobs }],
    ...usage,
  });
  let calls = 0;
  let begun = false;
  for await (const { parts, logprobs, end } of steps) {
    if (!begun) yield getChunk({ role: 'assistant', content: '' });
    begun = true;
    const deltas = parts.map((part): ChatDelta => {
      if (part.kind === 'text') return { content: part.text };
      if (part.kind === 'reasoning') return { reasoning_content: part.text };
      if (part.kind === 'arguments') return { tool_calls: [{ index: calls - 1, function: { arguments: part.text } }] };
      const called = { name: part.name, arguments: '' };
      return { tool_calls: [{ index: calls++, id: createCallId(), type: 'function', function: called }] };
    });
    // A token without text of its own still has its log-probability.
    if (deltas.length === 0 && logprobs) deltas.push({});
    for (const [i, delta] of deltas.entries()) yield getChunk(delta, i === 0 ? logprobs : null);
    if (end) yield getChunk({}, null, end.reason);
    if (end && plan.includesUsage) {
      yield { object: 'chat.completion.chunk', ...identity, choices: [], usage: end.usage };
    }
  }
}
