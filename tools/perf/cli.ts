/**
 * `npm run perf`: measures tables, prints them, merges them into perf-results.json, and fails when a ratio is missed.
 * Owns stdout: tables and checks, or with `--json` the file's object; everything else goes to stderr.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { findModel } from '../engine-page/model-file.ts';
import { readDocuments } from '../perplexity/documents.ts';
import { root } from '../program.ts';
import { ToolError } from '../tool-error.ts';
import { withBrowserBench } from './browser-runtime.ts';
import { getChecks, passes } from './checks.ts';
import { getEnvironment, getLoadAverage } from './environment.ts';
import { type PerfFlags, parsePerfFlags } from './flags.ts';
import { getTaughtPredictors, measureDelayedLadder, measureLadder, measurePredictors } from './ladder.ts';
import type { Table } from './measurement.ts';
import { withNodeBench } from './node-runtime.ts';
import { measureFaults, measureShadow, measureStorage } from './page-tables.ts';
import type { Bench, Conversation } from './protocol.ts';
import { laterTableNames, mergeResults, type PerfEnvironment, type ResultRow, type TableName } from './results.ts';
import { readResults, writeResults } from './results-file.ts';
import { measureDecode, measurePrefill } from './speed-tables.ts';
import { formatChecks, formatEnvironment, formatTable } from './text-tables.ts';
import { warmUpConversations } from './warmup.ts';

const tableMeasures: Readonly<Record<TableName, Table>> = {
  ladder: measureLadder,
  'ladder-delayed': measureDelayedLadder,
  predictors: measurePredictors,
  shadow: measureShadow,
  decode: measureDecode,
  prefill: measurePrefill,
  faults: measureFaults,
  storage: measureStorage,
};

export async function run(args: string[]): Promise<number> {
  const flags = parsePerfFlags(args);
  const resultsPath = join(root, 'perf-results.json');
  const older = await readResults(resultsPath);
  const conversations = await readConversations(flags);
  const found = await findModel(undefined);
  const loadAverage = getLoadAverage();
  console.error(`not in this version: rung (f), the learned predictor, and the tables ${laterTableNames.join(', ')}`);
  const measure = async (bench: Bench, browser: string | null) => {
    const { rows, environment } = await measureTables(bench, flags, conversations);
    return { rows, environment: getEnvironment({ ...environment, browser, loadAverage, tokens: flags.tokens }) };
  };
  const { rows, environment } = await (flags.runtime === 'browser'
    ? withBrowserBench(found, flags.chromeArgs, measure)
    : withNodeBench(found.file?.path ?? found.url, (bench) => measure(bench, null)));
  const results = mergeResults(older, environment, flags.tables, rows);
  await writeResults(resultsPath, results);

  const checks = getChecks(rows, flags.tables);
  const missed = checks.filter((check) => !passes(check));
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ ...results, checks })}\n`);
  } else {
    const tables = flags.tables.map((table) => formatTable(table, rows));
    const parts = [formatEnvironment(environment), ...tables, ...(checks.length > 0 ? [formatChecks(checks)] : [])];
    process.stdout.write(`${parts.join('\n\n')}\n`);
  }
  if (missed.length > 0) console.error(`perf: ${missed.length} of ${checks.length} checks missed`);
  return missed.length === 0 ? 0 : 1;
}

async function measureTables(
  bench: Bench,
  { runtime, tables, runs, tokens }: PerfFlags,
  conversations: readonly Conversation[],
): Promise<{ rows: ResultRow[]; environment: Pick<PerfEnvironment, 'adapter' | 'model'> }> {
  const store = runtime === 'browser' ? 'indexeddb' : 'memory';
  console.error('installing the model');
  const model = await bench.install(store);
  const taught = getTaughtPredictors(tables);
  if (taught.length > 0) {
    console.error(`teaching ${taught.join(', ')} ${conversations.length} conversations`);
    const learnt = await bench.warmUp(taught, conversations);
    console.error(`learnt from ${Math.round(learnt / taught.length)} tokens each`);
  }
  const rows: ResultRow[] = [];
  const startMs = performance.now();
  const report = (message: string): void =>
    console.error(`${Math.round((performance.now() - startMs) / 1000)} s: ${message}`);
  for (const table of tables) {
    rows.push(...(await tableMeasures[table]({ bench, model, store, runs, tokens, report })));
  }
  return { rows, environment: { adapter: model.adapter, model: model.name } };
}

/** Spread evenly over the file. */
async function readConversations({ warm, warmDocuments }: PerfFlags): Promise<readonly Conversation[]> {
  if (warm === undefined) return warmUpConversations;
  if (!/\.jsonl(\.gz)?$/i.test(warm)) {
    throw new ToolError(
      'BAD_ARGUMENT',
      `--warm is "${warm}"; allowed: chat documents as JSON Lines, .jsonl or .jsonl.gz`,
    );
  }
  const found = await stat(warm).catch(() => undefined);
  if (!found?.isFile()) {
    throw new ToolError('BAD_ARGUMENT', `--warm is "${warm}", which is no file; name chat documents as JSON Lines`);
  }
  const documents = (await readDocuments(warm, 1)).flatMap(({ request }) =>
    request.messages ? [request.messages] : [],
  );
  const step = Math.max(1, Math.floor(documents.length / warmDocuments));
  return documents.filter((_, index) => index % step === 0).slice(0, warmDocuments);
}
