/**
 * Teacher-forced loss: log-probability of every token given those before it. Owns the windows; samples nothing.
 */
import { throwIfAborted } from '../aborts';
import { EngineError } from '../errors';
import { computeLogprobs } from '../sampling/sampling';
import type { ScoreResult } from './engine';
import type { PassRunner } from './pass-runner';
import type { Runtime } from './runtime';

/** Tokens beyond the context go on in a new window, whose first token is not scored. */
export async function scoreTokens(
  runtime: Runtime,
  runner: PassRunner,
  tokenIds: readonly number[],
  signal?: AbortSignal,
): Promise<ScoreResult> {
  const { vocabSize, layers } = runtime.manifest.config;
  const { contextLength, rows, logitRows } = runtime.plan.state;
  checkTokenIds(tokenIds, vocabSize);
  const plan = { segmentLayers: layers, runAhead: 0, getExpected: () => [] };
  const chunkRows = Math.min(rows, logitRows);
  await runner.prefixes.enter([], false, signal);
  let tokens = 0;
  let nll = 0;
  for (let start = 0; start < tokenIds.length; start += contextLength) {
    const window = tokenIds.slice(start, start + contextLength);
    // The last token predicts nothing here.
    for (let at = 0; at < window.length - 1; at += chunkRows) {
      throwIfAborted(signal);
      const chunk = window.slice(at, Math.min(at + chunkRows, window.length - 1));
      const { logits } = await runner.run(
        { tokenIds: chunk, position: at, logitRows: chunk.length, sampling: null, readLogits: true, isChunk: true },
        plan,
        signal,
      );
      for (let row = 0; row < chunk.length; row++) {
        const own = (logits as Float32Array).subarray(row * vocabSize, (row + 1) * vocabSize);
        nll -= computeLogprobs(own, window[at + row + 1] as number, 0).logprob;
        tokens++;
      }
    }
  }
  return { tokens, nll };
}

/** @throws EngineError `BAD_ARGUMENT` */
export function checkTokenIds(ids: readonly number[], vocabSize: number): void {
  const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (wrong === undefined) return;
  throw new EngineError('BAD_ARGUMENT', `token id ${wrong} is out of range: 0 to ${vocabSize - 1} with this model`);
}
