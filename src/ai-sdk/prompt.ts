/**
 * A call of the AI SDK as a chat completion request. Pure; owns the meaning of the SDK's settings and of the parts of its
 * prompts. Source: the types of `@ai-sdk/provider`, LanguageModelV4.
 */
import type {
  JSONValue,
  LanguageModelV4CallOptions,
  LanguageModelV4Message,
  LanguageModelV4ToolResultOutput,
  SharedV4Warning,
} from '@ai-sdk/provider';
import type { ChatCompletionMessageParam, ChatCompletionRequest, ChatTool, ChatToolCall } from '../chat/types';
import { EngineError } from '../errors';

export interface SdkRequest {
  readonly request: ChatCompletionRequest;
  /** What was asked for and has no effect. */
  readonly warnings: SharedV4Warning[];
}

/** @throws EngineError `UNSUPPORTED` naming the part; the rest is checked where the request is served. */
export function getRequest(options: LanguageModelV4CallOptions, model: string | undefined): SdkRequest {
  const warnings: SharedV4Warning[] = [];
  if (options.reasoning !== undefined && options.reasoning !== 'provider-default') {
    const details = 'how long a model thinks is its own affair';
    warnings.push({ type: 'unsupported', feature: `reasoning "${options.reasoning}"`, details });
  }
  const tools = options.tools?.flatMap((tool): ChatTool[] => {
    if (tool.type === 'function') {
      const { name, description, inputSchema } = tool;
      const parameters = inputSchema as Readonly<Record<string, unknown>>;
      return [{ type: 'function', function: { name, ...(description !== undefined && { description }), parameters } }];
    }
    warnings.push({ type: 'unsupported', feature: `tool "${tool.id}"`, details: 'only functions can be called' });
    return [];
  });
  const { toolChoice, responseFormat } = options;
  const request: ChatCompletionRequest = {
    messages: options.prompt.flatMap(getMessages),
    ...(model !== undefined && { model }),
    ...(options.maxOutputTokens !== undefined && { max_tokens: options.maxOutputTokens }),
    ...(options.temperature !== undefined && { temperature: options.temperature }),
    ...(options.topP !== undefined && { top_p: options.topP }),
    ...(options.topK !== undefined && { top_k: options.topK }),
    ...(options.presencePenalty !== undefined && { presence_penalty: options.presencePenalty }),
    ...(options.frequencyPenalty !== undefined && { frequency_penalty: options.frequencyPenalty }),
    ...(options.stopSequences !== undefined && { stop: options.stopSequences }),
    ...(options.seed !== undefined && { seed: options.seed }),
    ...(tools && tools.length > 0 && { tools }),
    ...(toolChoice && {
      tool_choice:
        toolChoice.type === 'tool'
          ? ({ type: 'function', function: { name: toolChoice.toolName } } as const)
          : toolChoice.type,
    }),
    ...(responseFormat?.type === 'json' && { response_format: getFormat(responseFormat) }),
    ...(options.providerOptions?.webmoe as Partial<ChatCompletionRequest> | undefined),
  };
  return { request, warnings };
}

function getFormat({
  schema,
  name,
}: Extract<LanguageModelV4CallOptions['responseFormat'], { type: 'json' }>): NonNullable<
  ChatCompletionRequest['response_format']
> {
  if (schema === undefined) return { type: 'json_object' };
  return {
    type: 'json_schema',
    json_schema: { name: name ?? 'answer', schema: schema as Readonly<Record<string, unknown>> },
  };
}

function getMessages(message: LanguageModelV4Message): ChatCompletionMessageParam[] {
  switch (message.role) {
    case 'system':
      return [{ role: 'system', content: message.content }];
    case 'user':
      return [{ role: 'user', content: message.content.map((part) => readText(part, 'user')).join('') }];
    case 'assistant': {
      let content = '';
      const calls: ChatToolCall[] = [];
      for (const part of message.content) {
        if (part.type === 'tool-call') {
          const called = { name: part.toolName, arguments: JSON.stringify(part.input ?? {}) };
          calls.push({ id: part.toolCallId, type: 'function', function: called });
        } else if (part.type !== 'reasoning') content += readText(part, 'assistant');
        // What a model thought is not shown to it again: its template has no place for it.
      }
      return [{ role: 'assistant', content, ...(calls.length > 0 && { tool_calls: calls }) }];
    }
    case 'tool':
      return message.content.map((part) => {
        if (part.type !== 'tool-result') throw refuse(part.type, 'tool');
        return { role: 'tool', content: readOutput(part.output), tool_call_id: part.toolCallId };
      });
  }
}

function readText(part: { readonly type: string; readonly text?: unknown }, role: string): string {
  if (part.type === 'text' && typeof part.text === 'string') return part.text;
  throw refuse(part.type, role);
}

function readOutput(output: LanguageModelV4ToolResultOutput): string {
  switch (output.type) {
    case 'text':
    case 'error-text':
      return output.value;
    case 'json':
    case 'error-json':
      return JSON.stringify(output.value satisfies JSONValue);
    case 'execution-denied':
      return `The call was not allowed${output.reason ? `: ${output.reason}` : ''}.`;
    case 'content':
      return output.value.map((part) => readText(part, 'tool')).join('');
  }
}

function refuse(type: string, role: string): EngineError {
  return new EngineError('UNSUPPORTED', `a ${role} message has a part of type "${type}": only text can be read`);
}
