/**
 * A chat completion request as the engine's own, checked field by field: what is not supported is refused by name.
 * Pure; owns the meaning of OpenAI's fields, never runs anything.
 */
import type { ChatMessage, GenerateRequest, LoadedModel } from '../engine/engine';
import { EngineError } from '../errors';
import type { Grammar } from '../text/grammar';
import { refuseOthers } from './known-fields';
import { planTools, writeToolMessages } from './tools';
import type { ChatCompletionRequest, ChatResponseFormat } from './types';

export interface ChatPlan {
  readonly request: GenerateRequest;
  readonly isStreamed: boolean;
  readonly includesUsage: boolean;
  readonly conversation: string;
  readonly toolNames: readonly string[];
  /** What the parser of calls sees in front of the text. */
  readonly parserStart: string;
  readonly endsAfterCall: boolean;
}

const FIELDS: ReadonlySet<string> = new Set([
  ...['messages', 'model', 'stream', 'stream_options', 'temperature', 'top_p', 'top_k', 'min_p', 'max_tokens'],
  ...['max_completion_tokens', 'stop', 'seed', 'logprobs', 'top_logprobs', 'frequency_penalty', 'presence_penalty'],
  ...['logit_bias', 'response_format', 'tools', 'tool_choice', 'parallel_tool_calls', 'n', 'prompt_cache_key'],
]);
const MOST_TOP_LOGPROBS = 20;

/** Without the nulls that clients write for what they leave out. */
type GivenFields = { readonly [Field in keyof ChatCompletionRequest]: Exclude<ChatCompletionRequest[Field], null> };

/** @throws EngineError `BAD_ARGUMENT`, `UNSUPPORTED`, naming the field */
export function planChat(given: ChatCompletionRequest, model: LoadedModel): ChatPlan {
  const body = Object.fromEntries(Object.entries(given).filter(([, member]) => member !== null)) as GivenFields;
  refuseOthers(body, FIELDS, 'the request');
  if (!Array.isArray(body.messages)) throw badField('messages', 'is no list: give the messages of the conversation');
  if (body.model !== undefined && body.model !== model.name && body.model !== model.modelId) {
    throw badField(
      'model',
      `is "${body.model}", loaded is "${model.name}" (${model.modelId}): load it or leave this out`,
    );
  }
  if ((body.n ?? 1) !== 1) throw badField('n', `is ${body.n}, 1 answer is made: ask again for another`);
  if (body.top_logprobs !== undefined && !body.logprobs) throw badField('top_logprobs', 'needs logprobs: true');
  if (body.top_logprobs !== undefined && body.top_logprobs > MOST_TOP_LOGPROBS) {
    throw badField('top_logprobs', `is ${body.top_logprobs}: give 0 to ${MOST_TOP_LOGPROBS}`);
  }
  if (body.stream_options) {
    refuseOthers(body.stream_options, new Set(['include_usage']), 'stream_options');
    if (!body.stream) throw badField('stream_options', 'needs stream: true');
  }
  const { max_tokens, max_completion_tokens } = body;
  if (max_tokens !== undefined && max_completion_tokens !== undefined && max_tokens !== max_completion_tokens) {
    throw badField('max_tokens', `is ${max_tokens} and max_completion_tokens ${max_completion_tokens}: give 1 of them`);
  }
  const plain = body.messages.map(readMessage);
  const tools = planTools(body, model);
  const format = getGrammar(body.response_format);
  if (format && tools.definitions.length > 0) {
    throw badField('response_format', `is ${body.response_format?.type} beside tools: give 1 of them`);
  }
  const grammar = tools.grammar ?? format;
  const isListed = model.tools.inTemplate;
  return {
    request: {
      messages: isListed ? plain : writeToolMessages(plain, tools.definitions),
      ...(isListed && tools.definitions.length > 0 && { tools: tools.definitions }),
      ...(tools.answerStart !== '' && { answerStart: tools.answerStart }),
      // Harmony's channels are marks, also where there are no tools.
      showMarks: tools.definitions.length > 0 || model.tools.family === 'harmony',
      maxTokens: max_completion_tokens ?? max_tokens ?? model.contextLength,
      sampling: getSampling(body),
      stop: typeof body.stop === 'string' ? [body.stop] : (body.stop ?? []),
      ...(body.logprobs && { topLogprobs: body.top_logprobs ?? 0 }),
      ...(grammar && { grammar }),
    },
    isStreamed: body.stream ?? false,
    includesUsage: body.stream_options?.include_usage ?? false,
    conversation: body.prompt_cache_key ?? '',
    toolNames: tools.definitions.map(({ name }) => name),
    parserStart: tools.parserStart,
    endsAfterCall: body.parallel_tool_calls === false,
  };
}

function badField(field: string, what: string): EngineError {
  return new EngineError('BAD_ARGUMENT', `${field} ${what}`);
}

function getSampling(body: GivenFields): NonNullable<GenerateRequest['sampling']> {
  const { top_k, top_p, min_p, frequency_penalty, presence_penalty, logit_bias } = body;
  return {
    temperature: body.temperature ?? 1,
    seed: body.seed ?? (crypto.getRandomValues(new Uint32Array(1))[0] as number),
    ...(top_p !== undefined && { topP: top_p }),
    ...(top_k !== undefined && { topK: top_k }),
    ...(min_p !== undefined && { minP: min_p }),
    ...(frequency_penalty !== undefined && { frequencyPenalty: frequency_penalty }),
    ...(presence_penalty !== undefined && { presencePenalty: presence_penalty }),
    ...(logit_bias && { logitBias: logit_bias }),
  };
}

function getGrammar(format: ChatResponseFormat | undefined): Grammar | null {
  switch (format?.type) {
    case undefined:
    case 'text':
      return null;
    case 'json_object':
      return { kind: 'json-schema', schema: { type: 'object' } };
    case 'json_schema':
      return { kind: 'json-schema', schema: format.json_schema.schema ?? { type: 'object' } };
    case 'regex':
      return { kind: 'regex', pattern: format.pattern };
    case 'ebnf':
      return { kind: 'ebnf', source: format.grammar };
    default:
      throw new EngineError(
        'UNSUPPORTED',
        `response_format is "${(format as { type: string }).type}"; types are text, json_object, json_schema, regex, ebnf`,
      );
  }
}

const MESSAGE_FIELDS: Readonly<Record<string, ReadonlySet<string>>> = {
  system: new Set(['role', 'content']),
  developer: new Set(['role', 'content']),
  user: new Set(['role', 'content']),
  assistant: new Set(['role', 'content', 'tool_calls', 'reasoning_content']),
  tool: new Set(['role', 'content', 'tool_call_id']),
};

function readMessage(message: ChatCompletionRequest['messages'][number], index: number): ChatMessage {
  const where = `messages[${index}]`;
  const known = MESSAGE_FIELDS[message.role];
  if (!known) {
    throw badField(`${where}.role`, `is "${message.role}": roles are ${Object.keys(MESSAGE_FIELDS).join(', ')}`);
  }
  refuseOthers(message, known, where);
  const content = readContent(message.content, `${where}.content`);
  if (message.role === 'tool') return { role: 'tool', content, toolCallId: message.tool_call_id };
  if (message.role !== 'assistant') return { role: message.role === 'developer' ? 'system' : message.role, content };
  const toolCalls = message.tool_calls?.map(({ id, type, function: called }, i) => {
    if (type !== 'function') throw badField(`${where}.tool_calls[${i}].type`, `is "${type}": only function is known`);
    return { id, name: called.name, arguments: called.arguments };
  });
  return { role: 'assistant', content, ...(toolCalls && { toolCalls }) };
}

function readContent(content: unknown, where: string): string {
  if (typeof content === 'string') return content;
  if (content == null) return '';
  if (!Array.isArray(content)) throw badField(where, 'is neither a text nor a list of parts');
  return content
    .map((part: { type?: unknown; text?: unknown }, i) => {
      if (part?.type === 'text' && typeof part.text === 'string') return part.text;
      throw new EngineError('UNSUPPORTED', `${where}[${i}] has type "${part?.type}": only text can be read`);
    })
    .join('');
}
