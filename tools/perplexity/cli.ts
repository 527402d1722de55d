/**
 * `npm run perplexity`: teacher-forced loss of a file's documents through the engine in headless Chromium.
 * Owns stdout: a table, or with `--json` one object; everything else goes to stderr.
 */

import { readDocuments, type ScoredDocument } from '../documents.ts';
import type { EnginePage } from '../engine-page/browser-page.ts';
import { runEngine } from '../engine-page/run-engine.ts';
import { ToolError } from '../tool-error.ts';
import { type PerplexityFlags, parsePerplexityFlags } from './flags.ts';
import { addLoss, formatLossTable, getLossReport, type LossSum, noLoss } from './loss.ts';

const progressIntervalMs = 5000;

export async function run(args: string[]): Promise<number> {
  const flags = parsePerplexityFlags(args);
  const sums = await runEngine(
    flags,
    () => readDocuments(flags.file, flags.every),
    (page, _model, documents) => scoreDocuments(page, documents, flags),
  );
  const report = getLossReport(sums);
  process.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : formatLossTable(report));
  return 0;
}

async function scoreDocuments(
  page: EnginePage,
  documents: readonly ScoredDocument[],
  { maxTokens }: PerplexityFlags,
): Promise<Map<string, LossSum>> {
  const sums = new Map<string, LossSum>();
  const startMs = performance.now();
  let shownMs = startMs;
  let tokens = 0;
  for (const [index, document] of documents.entries()) {
    const score = await scoreDocument(page, document);
    tokens += score.tokens;
    const sum = addLoss(sums.get(document.source) ?? noLoss, { ...score, bytes: document.contentBytes });
    sums.set(document.source, sum);
    const nowMs = performance.now();
    const isLast = tokens >= maxTokens || index === documents.length - 1;
    if (isLast || nowMs - shownMs >= progressIntervalMs) {
      const rate = (tokens / (nowMs - startMs)) * 1000;
      console.error(
        `scored: ${index + 1} of ${documents.length} documents, ${tokens} tokens, ${rate.toFixed(1)} tokens/s`,
      );
      shownMs = nowMs;
    }
    if (isLast) break;
  }
  return sums;
}

async function scoreDocument(page: EnginePage, { request, place }: ScoredDocument) {
  try {
    const score = await page.score(request);
    if (score.tokens > 0) return score;
  } catch (cause) {
    if (!(cause instanceof ToolError)) throw cause;
    throw new ToolError(cause.code, `${place}: ${cause.message}`, { cause });
  }
  throw new ToolError('BAD_FILE', `${place}: it has fewer than 2 tokens; at least 2 are needed to score one`);
}
