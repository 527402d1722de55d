/**
 * One generation: prompt -> prefill chunks -> passes over a token and guesses -> tokens one by one, with text, stop rules and
 * statistics.
 * Owns the sequence; never touches a buffer.
 */
import { throwIfAborted } from '../aborts';
import { EngineError } from '../errors';
import { LogitRules, type ResolvedLogitOptions } from '../sampling/logit-changes';
import { computeLogprobs, getSamplingWords, type ResolvedSampling } from '../sampling/sampling';
import { createDetokenizer } from '../text/detokenizer';
import type { GrammarSession } from '../text/grammar';
import { createStopFilter } from '../text/stop-strings';
import type { Tokenizer } from '../text/tokenizer';
import type { Drafter } from './drafter';
import type { GenerateEvent, GenerateStats, StreamedLogprob, TokenLogprob } from './engine';
import type { PassRequest, PassResult } from './pass';
import type { PassRunner } from './pass-runner';
import { getVariants, type Runtime } from './runtime';
import { checkTokenIds } from './score';
import type { Sequence } from './sequence';
import { getTierStats } from './tier-stats';

export interface GenerationRequest {
  readonly promptTokenIds: readonly number[];
  readonly maxTokens: number;
  readonly sampling: ResolvedSampling;
  readonly logitOptions: ResolvedLogitOptions;
  readonly stop: readonly string[];
  readonly ignoreEos: boolean;
  /** What the text has to obey; null: nothing. */
  readonly grammar: GrammarSession | null;
  /** Special tokens are shown in the text. */
  readonly showMarks: boolean;
  /** Null: no log-probabilities. */
  readonly topLogprobs: number | null;
  /** Report the routes of every token fed. */
  readonly trace: boolean;
  /** Report which pages are resident. */
  readonly residency: boolean;
  /** What the KV cache has of the prompt is not computed again. */
  readonly reusePrefix: boolean;
  /** Most that the GPU makes before it is read back. */
  readonly tokensPerSubmit: number | 'auto';
}

export async function* runGeneration(
  runtime: Runtime,
  runner: PassRunner,
  sequence: Sequence,
  drafter: Drafter,
  tokenizer: Tokenizer,
  request: GenerationRequest,
  signal?: AbortSignal,
): AsyncGenerator<GenerateEvent, void, undefined> {
  const { promptTokenIds, sampling, topLogprobs, grammar } = request;
  const { config } = runtime.manifest;
  const { contextLength, rows: chunkRows } = runtime.plan.state;
  checkPrompt(promptTokenIds, contextLength, config.vocabSize);
  const endIds = new Set(request.ignoreEos ? [] : tokenizer.endIds);
  const maxTokens = Math.min(request.maxTokens, contextLength - promptTokenIds.length);

  const detokenizer = createDetokenizer();
  const stopFilter = createStopFilter(request.stop);
  const logitRules = new LogitRules(request.logitOptions);
  const tokenIds: number[] = [];
  const logprobs: TokenLogprob[] = [];
  let text = '';
  const readMask = async () => (grammar ? grammar.readMask() : null);
  let mask = await readMask();

  const getLogitChanges = async (guesses: readonly number[]) =>
    logitRules.getChanges(grammar && guesses.length > 0 ? await grammar.readMaskBehind(guesses) : mask, guesses);

  const runPass = (
    input: Pick<PassRequest, 'isChunk' | 'chunkRows' | 'tokenIds' | 'position' | 'draftTokens' | 'tokensPerSubmit'>,
    logitRows: number,
  ): Promise<PassResult> => {
    const firstSampled = input.position + input.tokenIds.length + (input.draftTokens ?? 0) - logitRows + 1;
    return sequence.run(
      {
        ...input,
        endIds,
        logitRows,
        sampling: logitRows > 0 ? getSamplingWords(sampling, config.vocabSize, firstSampled) : null,
        getLogitChanges: logitRules.isNeutral && !grammar ? undefined : getLogitChanges,
        readLogits: logitRows > 0 && topLogprobs !== null,
      },
      signal,
    );
  };

  const prefillStart = performance.now();
  let result: PassResult | undefined;
  const reusedTokens = await runner.prefixes.enter(promptTokenIds, request.reusePrefix, signal);
  sequence.skip(promptTokenIds.slice(0, reusedTokens));
  for (let at = reusedTokens; at < promptTokenIds.length; ) {
    throwIfAborted(signal);
    // Chunks lie where they would without a kept prefix: of the first, the end may be all there is to do.
    const start = at - (at % chunkRows);
    const end = Math.min(start + chunkRows, promptTokenIds.length);
    const chunk = promptTokenIds.slice(at, end);
    const isLast = end === promptTokenIds.length;
    result = await runPass({ isChunk: true, chunkRows: end - start, tokenIds: chunk, position: at }, isLast ? 1 : 0);
    if (request.trace) yield { type: 'routes', entries: sequence.getTrace(result, 'prefill', 0, chunk.length) };
    yield { type: 'prefill', done: end, total: promptTokenIds.length, reused: reusedTokens };
    at = end;
  }
  const decodeStart = performance.now();
  runner.resetCounters();
  runtime.pager.resetCounters();
  sequence.resetCounters();

  drafter.observe(promptTokenIds);
  let finishReason: 'stop' | 'length' = 'length';
  // The row of the latest pass whose token comes next, and the first row that has logits.
  let row = (result?.tokenIds.length ?? 1) - 1;
  let firstLogitRow = row;
  for (;;) {
    const logitRow = row - firstLogitRow;
    const tokenId = result?.sampledIds[logitRow] as number;
    tokenIds.push(tokenId);
    logitRules.count(tokenId);
    grammar?.accept(tokenId);
    drafter.observe([tokenId]);
    if (result?.logits && topLogprobs !== null) {
      const logits = result.logits.subarray(logitRow * config.vocabSize, (logitRow + 1) * config.vocabSize);
      logprobs.push({ tokenId, ...computeLogprobs(logits, tokenId, topLogprobs) });
    }
    const isEnd = endIds.has(tokenId);
    const ended = isEnd || (grammar?.isComplete ?? false);
    const decoded = isEnd ? '' : detokenizer.push(getShownBytes(tokenizer, tokenId, request.showMarks));
    let { emit, stopped } = stopFilter.push(decoded);
    const isLast = ended || stopped || tokenIds.length >= maxTokens;
    if (isLast && !stopped) {
      // What was held back in case a stop text or the rest of a character followed.
      const rest = stopFilter.push(detokenizer.flush());
      stopped = rest.stopped;
      emit += rest.emit + (rest.stopped ? '' : stopFilter.flush());
    }
    text += emit;
    const { needed, present } = runtime.pager.counters;
    yield {
      type: 'token',
      tokenId,
      text: emit,
      residentShare: runtime.pager.getResidentShare(),
      hitRate: needed === 0 ? 1 : present / needed,
      ...(topLogprobs !== null && { logprob: getStreamedLogprob(tokenizer, logprobs.at(-1) as TokenLogprob) }),
    };
    if (request.residency && result) yield { type: 'residency', pages: sequence.getResidency(result, row) };
    if (isLast) {
      if (ended || stopped) finishReason = 'stop';
      break;
    }
    throwIfAborted(signal);
    mask = await readMask();
    row++;
    if (!result || row >= result.acceptedRows) {
      // The last token is never fed, and a guess behind it would be of no use.
      const draft = drafter.choose(maxTokens - tokenIds.length - 1, grammar);
      const position = promptTokenIds.length + tokenIds.length - 1;
      const input = { isChunk: false, tokenIds: [tokenId, ...draft.tokenIds], position };
      const startMs = performance.now();
      // What is done to a token's logits needs the CPU before the next token.
      const isAlone = draft.source !== 'off' || grammar || !logitRules.isNeutral;
      const most = Math.min(maxTokens - tokenIds.length, runtime.plan.state.draftTokens);
      const tokensPerSubmit = isAlone ? 1 : sequence.chooseTokensPerSubmit(request.tokensPerSubmit, most);
      const logitRows = 1 + draft.selfTokens + draft.tokenIds.length;
      result = await runPass({ ...input, draftTokens: draft.selfTokens, tokensPerSubmit }, logitRows);
      const passMs = performance.now() - startMs;
      if (draft.source !== 'off') drafter.note(draft, result.acceptedRows, passMs);
      else for (let i = 0; i < result.acceptedRows; i++) drafter.note(draft, 1, passMs / result.acceptedRows);
      row = 0;
      firstLogitRow = 0;
    }
    if (request.trace) yield { type: 'routes', entries: sequence.getTrace(result, 'decode', row, row + 1) };
  }
  yield {
    type: 'done',
    result: {
      promptTokenIds,
      tokenIds,
      text,
      logprobs,
      finishReason,
      stats: getStats(runtime, runner, sequence, drafter, {
        promptTokens: promptTokenIds.length,
        reusedTokens,
        generatedTokens: tokenIds.length,
        prefillMs: decodeStart - prefillStart,
        decodeMs: performance.now() - decodeStart,
      }),
    },
  };
}

function getShownBytes(tokenizer: Tokenizer, tokenId: number, showMarks: boolean): Uint8Array<ArrayBuffer> {
  if (!tokenizer.isControl(tokenId)) return tokenizer.getTokenBytes(tokenId);
  return showMarks ? new TextEncoder().encode(tokenizer.getMark(tokenId)) : new Uint8Array(0);
}

function getStreamedLogprob(tokenizer: Tokenizer, { tokenId, logprob, top }: TokenLogprob): StreamedLogprob {
  const toChance = (id: number, value: number) => ({
    tokenId: id,
    logprob: value,
    bytes: getShownBytes(tokenizer, id, true),
  });
  return { ...toChance(tokenId, logprob), top: top.map(([id, value]) => toChance(id, value)) };
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
  checkTokenIds(ids, vocabSize);
}

/** What a generation has cost so far. */
export function getStats(
  runtime: Runtime,
  { counters, prefixes }: PassRunner,
  { answers }: Sequence,
  drafter: Drafter,
  measured: Pick<GenerateStats, 'promptTokens' | 'reusedTokens' | 'generatedTokens' | 'prefillMs' | 'decodeMs'>,
): GenerateStats {
  const { plan, memory, pager, host, device } = runtime;
  const { needed, present, faultingLayers, demandBytes, aheadBytes, usefulBytes } = pager.counters;
  return {
    ...measured,
    slotsPerLayer: plan.slotsPerLayer,
    hitRate: needed === 0 ? 1 : present / needed,
    faultingLayers,
    roundTrips: counters.roundTrips,
    submits: counters.submits,
    layersExecuted: counters.layersExecuted,
    hostCache: { ...host.counters },
    prefixCache: prefixes.getStats(),
    tiers: getTierStats(runtime),
    byLayer: pager.counters.byLayer.map((layer) => ({ ...layer })),
    uploadBytes: { demand: demandBytes, useful: usefulBytes, wasted: aheadBytes - usefulBytes },
    draft: { ...drafter.stats },
    learned: { ...answers },
    plannedGpuBytes: plan.totalBytes,
    peakGpuBytes: memory.peakBytes,
    adapter: device.description,
    variants: getVariants(runtime),
  };
}
