/**
 * `npm run perf`: measures tables, prints them, merges them into perf-results.json, and fails when a ratio is missed.
 * Owns stdout: tables and checks, or with `--json` the file's object; everything else goes to stderr.
 */
import { basename, join } from 'node:path';
import { findModel } from '../engine-page/model-file.ts';
import { root } from '../program.ts';
import { withBrowserBench } from './browser-runtime.ts';
import { getChecks, passes } from './checks.ts';
import { getEnvironment, getLoadAverage } from './environment.ts';
import { type PerfFlags, parsePerfFlags } from './flags.ts';
import type { Measurement } from './measurement.ts';
import { withNodeBench } from './node-runtime.ts';
import { type PeerFiles, withPeerFiles } from './peers/peer-files.ts';
import type { GetPeer } from './peers/peer-protocol.ts';
import { readPrompts } from './prompt-file.ts';
import type { Bench } from './protocol.ts';
import { cutShape, randomShapes } from './random-shapes.ts';
import { mergeResults, type PerfEnvironment, type ResultRow } from './results.ts';
import { readResults, writeResults } from './results-file.ts';
import { tableMeasures } from './tables.ts';
import { formatChecks, formatEnvironment, formatTable } from './text-tables.ts';

export async function run(args: string[]): Promise<number> {
  const flags = parsePerfFlags(args);
  const resultsPath = join(root, 'perf-results.json');
  const older = await readResults(resultsPath);
  const prompts = await readPrompts(flags.prompts);
  const found = await findModel(undefined);
  const loadAverage = getLoadAverage();
  const measureOver = async (peers: PeerFiles | null) => {
    const measure = async (bench: Bench, browser: string | null, get: GetPeer | null) => {
      const setUp = peers && { shape: peers.shape, modelUrl: found.url };
      const { rows, environment } = await measureTables(bench, flags, prompts, setUp && get && { setUp, get });
      const { tokens } = flags;
      const asked = flags.prompts && { file: basename(flags.prompts.path), count: prompts.length };
      const versions = peers ? { peers: peers.versions } : {};
      return {
        rows,
        environment: getEnvironment({
          ...environment,
          browser,
          loadAverage,
          tokens,
          ...(asked && { prompts: asked }),
          ...versions,
        }),
      };
    };
    return flags.runtime === 'browser'
      ? withBrowserBench(found, flags.chromeArgs, peers, measure)
      : withNodeBench(found, (bench) => measure(bench, null, null));
  };
  const { rows, environment } = await (flags.tables.includes('peers')
    ? withPeerFiles(found.files[0]?.path ?? '', measureOver)
    : measureOver(null));
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
  prompts: Measurement['prompts'],
  peers: Measurement['peers'],
): Promise<{ rows: ResultRow[]; environment: Pick<PerfEnvironment, 'adapter' | 'model'> }> {
  const store = runtime === 'browser' ? 'indexeddb' : 'memory';
  console.error('installing the model');
  const model = await bench.install(store);
  const shapes = randomShapes.map((shape) => cutShape(shape, model));
  const rows: ResultRow[] = [];
  const startMs = performance.now();
  const report = (message: string): void =>
    console.error(`${Math.round((performance.now() - startMs) / 1000)} s: ${message}`);
  for (const table of tables) {
    rows.push(...(await tableMeasures[table]({ bench, model, store, runs, tokens, prompts, shapes, peers, report })));
  }
  return { rows, environment: { adapter: model.adapter, model: model.name } };
}
