/**
 * One generation: prompt -> prefill chunks -> tokens one by one, with text, stop rules and statistics.
 * Owns the sequence; never touches a buffer.
 */
import { EngineError } from '../errors';
import { computeLogprobs, getSamplingWords, type ResolvedSampling } from '../sampling/sampling';
import { createDetokenizer } from '../text/detokenizer';
import { createStopFilter } from '../text/stop-strings';
import type { Tokenizer } from '../text/tokenizer';
import type { GenerateEvent, GenerateStats, TokenLogprob } from './engine';
import type { PassResult, PassRunner } from './pass-runner';
import { type Runtime, throwIfAborted } from './runtime';

export interface GenerationRequest {
  readonly promptTokenIds: readonly number[];
  readonly maxTokens: number;
  readonly sampling: ResolvedSampling;
  readonly stop: readonly string[];
  readonly ignoreEos: boolean;
  /** Null: no log-probabilities. */
  readonly topLogprobs: number | null;
}

export async function* runGeneration(
  runtime: Runtime,
  runner: PassRunner,
  tokenizer: Tokenizer,
  request: GenerationRequest,
  signal?: AbortSignal,
): AsyncGenerator<GenerateEvent, void, undefined> {
  const { promptTokenIds, sampling, topLogprobs } = request;
  const { config } = runtime.manifest;
  const { contextLength, rows: chunkRows } = runtime.plan.state;
  checkPrompt(promptTokenIds, contextLength, config.vocabSize);
  const endIds = new Set(request.ignoreEos ? [] : tokenizer.endIds);
  const maxTokens = Math.min(request.maxTokens, contextLength - promptTokenIds.length);

  const detokenizer = createDetokenizer();
  const stopFilter = createStopFilter(request.stop);
  const tokenIds: number[] = [];
  const logprobs: TokenLogprob[] = [];
  let text = '';

  const runPass = (ids: readonly number[], position: number, isLast: boolean): Promise<PassResult> =>
    runner.run(
      {
        tokenIds: ids,
        position,
        logitRows: isLast ? 1 : 0,
        sampling: isLast ? getSamplingWords(sampling, config.vocabSize, position + ids.length) : null,
        readLogits: isLast && topLogprobs !== null,
      },
      signal,
    );

  const prefillStart = performance.now();
  let result: PassResult | undefined;
  for (let at = 0; at < promptTokenIds.length; at += chunkRows) {
    throwIfAborted(signal);
    const chunk = promptTokenIds.slice(at, at + chunkRows);
    result = await runPass(chunk, at, at + chunk.length === promptTokenIds.length);
    yield { type: 'prefill', done: at + chunk.length, total: promptTokenIds.length };
  }
  const decodeStart = performance.now();
  runner.resetCounters();
  runtime.pager.resetCounters();

  let finishReason: 'stop' | 'length' = 'length';
  for (;;) {
    const tokenId = result?.sampledIds[0] as number;
    tokenIds.push(tokenId);
    if (result?.logits && topLogprobs !== null)
      logprobs.push({ tokenId, ...computeLogprobs(result.logits, tokenId, topLogprobs) });
    const ended = endIds.has(tokenId);
    const decoded = ended || tokenizer.isControl(tokenId) ? '' : detokenizer.push(tokenizer.getTokenBytes(tokenId));
    const { emit, stopped } = stopFilter.push(decoded);
    text += emit;
    const { needed, present } = runtime.pager.counters;
    yield {
      type: 'token',
      tokenId,
      text: emit,
      residentShare: runtime.pager.getResidentShare(),
      hitRate: needed === 0 ? 1 : present / needed,
    };
    if (ended || stopped) {
      finishReason = 'stop';
      break;
    }
    if (tokenIds.length >= maxTokens) break;
    throwIfAborted(signal);
    result = await runPass([tokenId], promptTokenIds.length + tokenIds.length - 1, true);
  }
  // What was held back in case a stop text or a whole character followed.
  const rest = finishReason === 'stop' && !endIds.has(tokenIds.at(-1) as number) ? '' : flush();
  text += rest;

  yield {
    type: 'done',
    result: {
      promptTokenIds,
      tokenIds,
      text,
      logprobs,
      finishReason,
      stats: getStats(runtime, runner, {
        promptTokens: promptTokenIds.length,
        generatedTokens: tokenIds.length,
        prefillMs: decodeStart - prefillStart,
        decodeMs: performance.now() - decodeStart,
      }),
    },
  };

  function flush(): string {
    const last = stopFilter.push(detokenizer.flush());
    return last.emit + (last.stopped ? '' : stopFilter.flush());
  }
}

function checkPrompt(ids: readonly number[], contextLength: number, vocabSize: number): void {
  if (ids.length === 0) {
    throw new EngineError('BAD_ARGUMENT', 'the prompt has 0 tokens, at least 1 is needed: give some text or token ids');
  }
  if (ids.length >= contextLength) {
    throw new EngineError(
      'CONTEXT_OVERFLOW',
      `the prompt has ${ids.length} tokens, the context holds ${contextLength} with room for at least one answer token: shorten the prompt`,
    );
  }
  const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (wrong !== undefined) {
    throw new EngineError('BAD_ARGUMENT', `token id ${wrong} is out of range: 0 to ${vocabSize - 1} with this model`);
  }
}

function getStats(
  { plan, memory, pager, device, variant }: Runtime,
  { counters }: PassRunner,
  measured: Pick<GenerateStats, 'promptTokens' | 'generatedTokens' | 'prefillMs' | 'decodeMs'>,
): GenerateStats {
  const { needed, present, faultingLayers, demandBytes } = pager.counters;
  return {
    ...measured,
    slotsPerLayer: plan.slotsPerLayer,
    hitRate: needed === 0 ? 1 : present / needed,
    faultingLayers,
    roundTrips: counters.roundTrips,
    submits: counters.submits,
    layersExecuted: counters.layersExecuted,
    uploadBytes: { demand: demandBytes, useful: 0, wasted: 0 },
    plannedGpuBytes: plan.totalBytes,
    peakGpuBytes: memory.peakBytes,
    adapter: device.description,
    variants: { kernels: variant.name },
  };
}
