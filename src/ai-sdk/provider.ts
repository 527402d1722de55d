/**
 * An engine as a provider of the AI SDK: LanguageModelV4 over chat completions. Owns what is passed on and what comes back;
 * prompt.ts and stream.ts have the shapes. Types alone come from `@ai-sdk/provider`.
 */
import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4Content,
  LanguageModelV4GenerateResult,
  LanguageModelV4StreamPart,
  LanguageModelV4StreamResult,
} from '@ai-sdk/provider';
import { type Chat, createChat } from '../chat/chat';
import type { Engine } from '../engine/engine';
import { EngineError } from '../errors';
import { getRequest } from './prompt';
import { createPartStream } from './stream';

/** A provider of language models alone: the ones that the engine has loaded. */
export interface WebmoeProvider {
  (modelId?: string): LanguageModelV4;
  readonly specificationVersion: 'v4';
  /**
   * The loaded model.
   * @param modelId its name or id. Default: whichever is loaded at the time of a call.
   */
  languageModel(modelId?: string): LanguageModelV4;
  /** @throws EngineError `UNSUPPORTED` */
  embeddingModel(modelId: string): never;
  /** @throws EngineError `UNSUPPORTED` */
  imageModel(modelId: string): never;
}

/**
 * The AI SDK over an engine in a worker or in process: `streamText({ model: createWebmoe(engine)(), prompt })`.
 *
 * Fields of chat completions that the SDK has no setting for go under `providerOptions.webmoe`, such as `min_p`,
 * `logit_bias` and `prompt_cache_key`. What cannot be done is an error (files, an unknown option) or, where the SDK has a place for
 * it, a warning in the result.
 */
export function createWebmoe(engine: Engine & { readonly chat?: Chat }): WebmoeProvider {
  // The engine's own, where it has one: its queue is the one in which other callers wait.
  const chat = engine.chat ?? createChat(engine);
  const languageModel = (modelId?: string): LanguageModelV4 => new WebmoeLanguageModel(engine, chat, modelId);
  const refuse =
    (kind: string) =>
    (modelId: string): never => {
      throw new EngineError('UNSUPPORTED', `"${modelId}" was asked for as ${kind}: webmoe has language models only`);
    };
  return Object.assign((modelId?: string) => languageModel(modelId), {
    specificationVersion: 'v4' as const,
    languageModel,
    embeddingModel: refuse('an embedding model'),
    imageModel: refuse('an image model'),
  });
}

class WebmoeLanguageModel implements LanguageModelV4 {
  readonly specificationVersion = 'v4';
  readonly provider = 'webmoe';
  /** Nothing is fetched for a prompt. */
  readonly supportedUrls = {};
  readonly #engine: Engine;
  readonly #chat: Chat;
  readonly #asked: string | undefined;

  constructor(engine: Engine, chat: Chat, asked: string | undefined) {
    this.#engine = engine;
    this.#chat = chat;
    this.#asked = asked;
  }

  get modelId(): string {
    return this.#asked ?? this.#engine.model?.name ?? 'webmoe';
  }

  async doStream(options: LanguageModelV4CallOptions): Promise<LanguageModelV4StreamResult> {
    const { request, warnings } = getRequest(options, this.#asked);
    const chunks = await this.#chat.completions.create(
      { ...request, stream: true, stream_options: { include_usage: true } },
      options.abortSignal ? { signal: options.abortSignal } : {},
    );
    return {
      stream: createPartStream(chunks, warnings, options.includeRawChunks ?? false),
      request: { body: request },
    };
  }

  async doGenerate(options: LanguageModelV4CallOptions): Promise<LanguageModelV4GenerateResult> {
    const { stream, request } = await this.doStream(options);
    return { ...(await collect(stream)), ...(request && { request }) };
  }
}

/** The parts of a stream as one result. */
async function collect(stream: ReadableStream<LanguageModelV4StreamPart>): Promise<LanguageModelV4GenerateResult> {
  const content: LanguageModelV4Content[] = [];
  let result: Pick<LanguageModelV4GenerateResult, 'finishReason' | 'usage'> | undefined;
  let warnings: LanguageModelV4GenerateResult['warnings'] = [];
  let response: LanguageModelV4GenerateResult['response'];
  const reader = stream.getReader();
  for (let step = await reader.read(); !step.done; step = await reader.read()) {
    const part = step.value;
    const last = content.at(-1);
    switch (part.type) {
      case 'stream-start':
        warnings = part.warnings;
        break;
      case 'response-metadata': {
        const { type: _, ...metadata } = part;
        response = metadata;
        break;
      }
      case 'text-start':
        content.push({ type: 'text', text: '' });
        break;
      case 'reasoning-start':
        content.push({ type: 'reasoning', text: '' });
        break;
      case 'text-delta':
      case 'reasoning-delta':
        if (last?.type === 'text' || last?.type === 'reasoning') last.text += part.delta;
        break;
      case 'tool-call':
        content.push(part);
        break;
      case 'finish':
        result = { finishReason: part.finishReason, usage: part.usage };
        break;
      case 'error':
        throw part.error;
    }
  }
  if (!result) throw new EngineError('INTERNAL', 'the answer ended without a reason');
  return { content, warnings, ...result, ...(response && { response }) };
}
