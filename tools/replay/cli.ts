/**
 * `npm run replay`: routing traces through cache policies and predictors, without a model or a GPU.
 * Owns stdout: tables, or with `--json` one array; everything else goes to stderr.
 */
import type { PackedTrace } from '../../src/routing/replay/packed-trace.ts';
import { replayTraces } from '../../src/routing/replay/rows.ts';
import { parseReplayFlags } from './flags.ts';
import { formatTables } from './tables.ts';
import { readTraceFile } from './trace-file.ts';

export async function run(args: string[]): Promise<number> {
  const flags = parseReplayFlags(args);
  const traces = await readTraceFiles(flags.traces, '--trace');
  const models = replayTraces(traces, await readTraceFiles(flags.learn, '--learn'), flags);
  process.stdout.write(flags.json ? `${JSON.stringify(models.flat())}\n` : formatTables(models));
  return 0;
}

async function readTraceFiles(paths: readonly string[], flag: string): Promise<PackedTrace[]> {
  const traces: PackedTrace[] = [];
  for (const path of paths) traces.push(await readTraceFile(path, flag));
  return traces;
}
