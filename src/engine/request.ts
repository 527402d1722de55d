/**
 * Requests as callers write them -> requests as the engine runs them: defaults, ranges, and the prompt as tokens. Pure.
 */
import type { ModelManifest } from '../checkpoint/manifest';
import { EngineError } from '../errors';
import { MOST_DRAFT_TOKENS } from '../model/run-state';
import { resolveLogitOptions } from '../sampling/logit-changes';
import { resolveSampling } from '../sampling/sampling';
import { renderChat } from '../text/chat-template';
import type { Tokenizer } from '../text/tokenizer';
import type { GenerateRequest, PagingOptions, ScoreRequest } from './engine';
import type { GenerationRequest } from './generation';
import type { ResolvedPaging } from './sequence';

/**
 * What a caller asks for, checked, with its defaults.
 * @throws EngineError `BAD_ARGUMENT` naming the option, its value and its range
 */
export function resolveRequest(
  request: GenerateRequest,
  manifest: ModelManifest,
  tokenizer: Tokenizer,
): Omit<GenerationRequest, 'grammar'> {
  const { maxTokens = 128, stop = [], topLogprobs } = request;
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new EngineError('BAD_ARGUMENT', `maxTokens ${maxTokens} is out of range: an integer of at least 1`);
  }
  const { vocabSize } = manifest.config;
  if (topLogprobs !== undefined && (!Number.isInteger(topLogprobs) || topLogprobs < 0 || topLogprobs > vocabSize)) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `topLogprobs ${topLogprobs} is out of range: an integer from 0 to ${vocabSize}`,
    );
  }
  if (request.grammar && request.ignoreEos) {
    throw new EngineError(
      'BAD_ARGUMENT',
      'grammar and ignoreEos were given, and a grammar says where a text ends: give 1',
    );
  }
  const { answerStart = '', tokensPerSubmit = 'auto' } = request;
  if (
    tokensPerSubmit !== 'auto' &&
    !(Number.isInteger(tokensPerSubmit) && tokensPerSubmit >= 1 && tokensPerSubmit <= MOST_DRAFT_TOKENS)
  ) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `tokensPerSubmit ${tokensPerSubmit} is out of range: an integer from 1 to ${MOST_DRAFT_TOKENS}, or auto`,
    );
  }
  if (answerStart !== '' && !request.messages) {
    throw new EngineError('BAD_ARGUMENT', 'answerStart was given without messages: write it into the prompt');
  }
  return {
    promptTokenIds: [
      ...resolvePrompt(request, manifest, tokenizer, true),
      ...tokenizer.encode(answerStart, { parseSpecial: true, addBos: false }),
    ],
    maxTokens,
    sampling: resolveSampling(request.sampling),
    logitOptions: resolveLogitOptions(request.sampling ?? {}, vocabSize),
    stop,
    ignoreEos: request.ignoreEos ?? false,
    showMarks: request.showMarks ?? false,
    topLogprobs: topLogprobs ?? null,
    trace: request.trace ?? false,
    residency: request.residency ?? false,
    // A trace has the routes of every token: none may be left out.
    reusePrefix: (request.reusePrefix ?? true) && !request.trace,
    tokensPerSubmit,
  };
}

export function resolvePaging(options: PagingOptions = {}): ResolvedPaging {
  const { segmentLayers = 'auto', runAhead, readBackEveryLayer = false } = options;
  if (segmentLayers !== 'auto' && (!Number.isInteger(segmentLayers) || segmentLayers < 1)) {
    throw new EngineError('BAD_ARGUMENT', `segmentLayers ${segmentLayers} is out of range: an integer of at least 1`);
  }
  return {
    segmentLayers: readBackEveryLayer ? 1 : segmentLayers,
    // When every layer is waited for, nothing lies behind a fault.
    runAhead: readBackEveryLayer || runAhead === false ? 'off' : runAhead ? 'full' : 'auto',
  };
}

/** @param addGenerationPrompt whether rendered messages end with the start of an answer. */
export function resolvePrompt(
  { messages, tools, prompt, tokenIds }: ScoreRequest,
  manifest: ModelManifest,
  tokenizer: Tokenizer,
  addGenerationPrompt: boolean,
): readonly number[] {
  const given = [messages, prompt, tokenIds].filter((input) => input !== undefined).length;
  if (given !== 1) {
    throw new EngineError('BAD_ARGUMENT', `${given} of messages, prompt and tokenIds were given: give exactly 1`);
  }
  const data = manifest.tokenizer;
  if (messages) return renderChat(data, tokenizer, messages, { addGenerationPrompt, tools });
  if (prompt !== undefined) return tokenizer.encode(prompt, { parseSpecial: false, addBos: data.addBos });
  return tokenIds ?? [];
}
