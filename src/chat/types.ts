/**
 * Requests and answers of chat completions, in the shape of OpenAI's API: fields, names and meaning are theirs.
 * Owns types only. Source: OpenAI's API reference, "Chat completions"; what is not listed here is refused by name.
 */
import type { JsonSchema } from '../text/schema-grammar';

/** A part of a message that is text; parts of one message are joined. */
export interface TextContentPart {
  readonly type: 'text';
  readonly text: string;
}

/** A call of a function, as an assistant's message has it. */
export interface ChatToolCall {
  readonly id: string;
  readonly type: 'function';
  /** `arguments` is JSON text. */
  readonly function: { readonly name: string; readonly arguments: string };
}

/** A message of a request; `developer` counts as `system`. */
export type ChatCompletionMessageParam =
  | { readonly role: 'system' | 'developer' | 'user'; readonly content: string | readonly TextContentPart[] }
  | {
      readonly role: 'assistant';
      readonly content?: string | readonly TextContentPart[] | null;
      readonly tool_calls?: readonly ChatToolCall[];
      /** As an answer had it; not told to the model again. */
      readonly reasoning_content?: string | null;
    }
  | { readonly role: 'tool'; readonly content: string | readonly TextContentPart[]; readonly tool_call_id: string };

/** A function that the model may call; `parameters` is the JSON schema of its arguments. */
export interface ChatTool {
  readonly type: 'function';
  readonly function: {
    readonly name: string;
    readonly description?: string;
    readonly parameters?: Readonly<Record<string, unknown>>;
    readonly strict?: boolean | null;
  };
}

/** What the text of the answer has to be; enforced while decoding. */
export type ChatResponseFormat =
  | { readonly type: 'text' | 'json_object' }
  | {
      readonly type: 'json_schema';
      readonly json_schema: {
        readonly name: string;
        readonly description?: string;
        readonly schema?: JsonSchema;
        readonly strict?: boolean | null;
      };
    }
  /** webmoe's own: a regular expression, matched as a whole. */
  | { readonly type: 'regex'; readonly pattern: string }
  /** webmoe's own: XGrammar's EBNF, with the start rule `root`. */
  | { readonly type: 'ebnf'; readonly grammar: string };

/** A request, field by field as OpenAI's; any other field is refused by name. docs/chat.md has the table. */
export interface ChatCompletionRequest {
  readonly messages: readonly ChatCompletionMessageParam[];
  /** Name or id of the loaded model, when given. */
  readonly model?: string;
  readonly stream?: boolean | null;
  readonly stream_options?: { readonly include_usage?: boolean } | null;
  /** 0 to 100. Default 1. */
  readonly temperature?: number | null;
  readonly top_p?: number | null;
  /** As in vLLM and llama.cpp; 0: all. */
  readonly top_k?: number | null;
  /** As in vLLM and llama.cpp. */
  readonly min_p?: number | null;
  /** Default: what the context holds. */
  readonly max_tokens?: number | null;
  readonly max_completion_tokens?: number | null;
  readonly stop?: string | readonly string[] | null;
  /** 0 to 4294967295; the same request with the same seed gets the same answer. Default: another one each time. */
  readonly seed?: number | null;
  readonly logprobs?: boolean | null;
  /** 0 to 20; with `logprobs`. */
  readonly top_logprobs?: number | null;
  readonly frequency_penalty?: number | null;
  readonly presence_penalty?: number | null;
  readonly logit_bias?: Readonly<Record<string, number>> | null;
  readonly response_format?: ChatResponseFormat;
  readonly tools?: readonly ChatTool[];
  readonly tool_choice?:
    | 'none'
    | 'auto'
    | 'required'
    | { readonly type: 'function'; readonly function: { readonly name: string } };
  /** False: the answer ends behind the first call. Default true. */
  readonly parallel_tool_calls?: boolean;
  /** 1, when given. */
  readonly n?: number | null;
  /** Requests with one key are a conversation: conversations take turns. */
  readonly prompt_cache_key?: string;
}

/** A request that is answered in chunks. */
export type StreamingRequest = ChatCompletionRequest & { readonly stream: true };
/** A request that is answered whole. */
export type PlainRequest = ChatCompletionRequest & { readonly stream?: false | null };

/** Why an answer ended: by itself or a stop text, cut off by `max_tokens` or the context, or to call tools. */
export type FinishReason = 'stop' | 'length' | 'tool_calls';

/** A token of the answer with its natural log-probability, and the most likely tokens in its place. */
export interface ChatTokenLogprob {
  token: string;
  logprob: number;
  /** UTF-8 of the token, which may be part of a character. */
  bytes: number[];
  top_logprobs: { token: string; logprob: number; bytes: number[] }[];
}

/** Log-probabilities of an answer, or of one chunk of it. */
export interface ChatLogprobs {
  content: ChatTokenLogprob[];
  refusal: null;
}

/** What a request took, in tokens. */
export interface ChatUsage {
  prompt_tokens: number;
  /** Tokens of the prompt that were kept from an earlier one, and not computed again. */
  prompt_tokens_details: { cached_tokens: number };
  /** The end token included. */
  completion_tokens: number;
  total_tokens: number;
}

/** A whole answer. */
export interface ChatCompletion {
  id: string;
  object: 'chat.completion';
  /** Seconds since 1970. */
  created: number;
  model: string;
  choices: {
    index: number;
    message: {
      role: 'assistant';
      content: string | null;
      refusal: null;
      /** What the model thought first, where its template has a channel for that (as in vLLM). */
      reasoning_content?: string;
      tool_calls?: { id: string; type: 'function'; function: { name: string; arguments: string } }[];
    };
    finish_reason: FinishReason;
    logprobs: ChatLogprobs | null;
  }[];
  usage: ChatUsage;
}

/** A piece of a call; `id` and the name come with its first. */
export interface ChatToolCallDelta {
  index: number;
  id?: string;
  type?: 'function';
  function: { name?: string; arguments: string };
}

/** What a chunk adds to the answer. */
export interface ChatDelta {
  role?: 'assistant';
  content?: string;
  reasoning_content?: string;
  tool_calls?: ChatToolCallDelta[];
}

/** A piece of an answer. */
export interface ChatCompletionChunk {
  id: string;
  object: 'chat.completion.chunk';
  created: number;
  model: string;
  /** Empty in the last chunk with `stream_options: { include_usage: true }`. */
  choices: { index: number; delta: ChatDelta; finish_reason: FinishReason | null; logprobs: ChatLogprobs | null }[];
  /** Only with `include_usage`: null but in the last chunk. */
  usage?: ChatUsage | null;
}
