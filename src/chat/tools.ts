/**
 * Tools of a request: what the model is told of them, and what it may write when it has to call one. Pure.
 * A template that lists tools is given them; for any other they are written into the messages.
 */
import type { ChatMessage, LoadedModel, ToolDefinition } from '../engine/engine';
import { EngineError } from '../errors';
import type { Grammar } from '../text/grammar';
import type { JsonSchema } from '../text/schema-grammar';
import { refuseOthers } from './known-fields';
import type { ChatCompletionRequest } from './types';

export interface ToolPlan {
  readonly definitions: readonly ToolDefinition[];
  readonly grammar: Grammar | null;
  /** How the answer has to begin. */
  readonly answerStart: string;
  /** What of that the parser of calls has to see. */
  readonly parserStart: string;
}

const NONE: ToolPlan = { definitions: [], grammar: null, answerStart: '', parserStart: '' };

/** @throws EngineError `BAD_ARGUMENT`, `UNSUPPORTED` */
export function planTools({ tools = [], tool_choice: choice }: ChatCompletionRequest, model: LoadedModel): ToolPlan {
  const all = tools.map(readTool);
  if (all.length === 0) {
    if (choice === undefined || choice === 'none' || choice === 'auto') return NONE;
    throw new EngineError('BAD_ARGUMENT', 'tool_choice asks for a call, and tools has 0: give at least 1');
  }
  if (choice === 'none') return NONE;
  const { family } = model.tools;
  if (choice === undefined || choice === 'auto') {
    // Where calls stand between marks that are text, everything between them is made to fit.
    const tags = { begin: '<tool_call>', end: '</tool_call>' };
    const grammar = family === 'hermes' ? ({ kind: 'tagged', ...tags, schema: getCallSchema(all) } as const) : null;
    return { definitions: all, grammar, answerStart: '', parserStart: '' };
  }
  const asked = choice === 'required' ? all : all.filter(({ name }) => name === readChoice(choice));
  if (asked.length === 0) {
    const names = all.map(({ name }) => name).join(', ');
    throw new EngineError('BAD_ARGUMENT', `tool_choice names "${readChoice(choice)}"; tools are ${names}`);
  }
  const call = getCallSchema(asked);
  const force = (start: string, schema: JsonSchema): ToolPlan => ({
    definitions: all,
    grammar: { kind: 'json-schema', schema },
    answerStart: start,
    parserStart: start,
  });
  switch (family) {
    case 'hermes':
      return force('<tool_call>\n', call);
    case 'mistral':
      return force('[TOOL_CALLS]', { type: 'array', items: call, minItems: 1, maxItems: 1 });
    case 'json':
      return force('', call);
    case 'harmony': {
      const [only, ...others] = asked;
      if (!only || others.length > 0) {
        const message = `tool_choice "required" among ${asked.length} tools cannot be enforced with this model: name 1`;
        throw new EngineError('UNSUPPORTED', message);
      }
      const start = `<|channel|>commentary to=functions.${only.name} <|constrain|>json<|message|>`;
      return force(start, getParameters(only));
    }
  }
}

function readTool(tool: NonNullable<ChatCompletionRequest['tools']>[number], index: number): ToolDefinition {
  const where = `tools[${index}]`;
  if (tool.type !== 'function') {
    throw new EngineError(
      'UNSUPPORTED',
      `${where} has type "${(tool as { type: string }).type}": only function is known`,
    );
  }
  refuseOthers(tool.function, new Set(['name', 'description', 'parameters', 'strict']), `${where}.function`);
  const { name, description, parameters } = tool.function;
  if (!/^[\w.-]{1,64}$/.test(name)) {
    throw new EngineError('BAD_ARGUMENT', `${where} has the name "${name}": give 1 to 64 letters, digits, _ . or -`);
  }
  return { name, ...(description !== undefined && { description }), ...(parameters && { parameters }) };
}

function readChoice(choice: ChatCompletionRequest['tool_choice']): string {
  if (typeof choice === 'object' && choice.type === 'function') return choice.function.name;
  const text = typeof choice === 'object' ? (choice as { type: string }).type : String(choice);
  throw new EngineError('UNSUPPORTED', `tool_choice is "${text}": none, auto, required or a function are known`);
}

/** Without `parameters` a function has none. */
function getParameters({ parameters }: ToolDefinition): Readonly<Record<string, unknown>> {
  return parameters ?? { type: 'object', additionalProperties: false };
}

function getCallSchema(tools: readonly ToolDefinition[]): JsonSchema {
  const schemas = tools.map((tool) => ({
    type: 'object',
    properties: { name: { const: tool.name }, arguments: getParameters(tool) },
    required: ['name', 'arguments'],
  }));
  const [only] = schemas;
  return only && schemas.length === 1 ? only : { anyOf: schemas };
}

/** Tools, calls and their results as plain messages, for a template that knows only texts. */
export function writeToolMessages(
  messages: readonly ChatMessage[],
  tools: readonly ToolDefinition[],
): readonly ChatMessage[] {
  const plain = messages.map((message): ChatMessage => {
    if (message.role === 'tool') return { role: 'user', content: `Result of the call: ${message.content}` };
    const calls = message.toolCalls ?? [];
    if (calls.length === 0) return { role: message.role, content: message.content };
    const written = calls.map(
      (call) => `{"name": ${JSON.stringify(call.name)}, "arguments": ${call.arguments === '' ? '{}' : call.arguments}}`,
    );
    return { role: message.role, content: [message.content, ...written].filter((text) => text !== '').join('\n') };
  });
  if (tools.length === 0) return plain;
  const told =
    'You can call these functions. To call one, answer with nothing but {"name": …, "arguments": {…}}.\n' +
    tools.map((tool) => JSON.stringify(tool)).join('\n');
  const [first, ...rest] = plain;
  if (first?.role === 'system') return [{ role: 'system', content: `${first.content}\n\n${told}` }, ...rest];
  return [{ role: 'system', content: told }, ...plain];
}
