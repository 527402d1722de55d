/**
 * `npm run teach`: what the engine's ensemble learns from routing traces, as a file that comes with a model. No model, no GPU.
 * Owns the file; the traces are read as a replay reads them.
 */
import { gzipSync } from 'node:zlib';
import type { Predictor, PredictorState } from '../../src/routing/predictor.ts';
import { createPredictor } from '../../src/routing/predictors.ts';
import { getContext, getModelKey, getRoutes, type PackedTrace } from '../../src/routing/replay/packed-trace.ts';
import { formatStateFile } from '../../src/routing/state-file.ts';
import { parseFlags, parseText } from '../flags.ts';
import { checkOutputPath, writeOutputFile } from '../output-file.ts';
import { readTraceFile } from '../replay/trace-file.ts';
import { ToolError } from '../tool-error.ts';
import { thinTables } from './thin-tables.ts';

const options = { trace: { type: 'string', multiple: true }, out: { type: 'string' } } as const;

export async function run(args: string[]): Promise<number> {
  const values = parseFlags(args, options);
  const paths = values.trace ?? [];
  if (paths.length === 0) {
    throw new ToolError('BAD_ARGUMENT', '--trace is missing; give at least one trace of training documents');
  }
  if (values.out === undefined) throw new ToolError('BAD_ARGUMENT', '--out is missing; name the file to write');
  const out = parseText('out', values.out);
  await checkOutputPath(out, '--out');
  const traces: PackedTrace[] = [];
  for (const path of paths) traces.push(await readTraceFile(path));
  const state = thinTables(teach(traces));
  const bytes = gzipSync(formatStateFile(state), { level: 9 });
  await writeOutputFile(out, bytes);
  const tokens = traces.reduce((sum, trace) => sum + trace.tokens, 0);
  console.error(`${out}: ${bytes.length} bytes, learnt from ${tokens} tokens`);
  return 0;
}

/** As the engine teaches it, but that no token faults: what is learnt behind faults begins anew with the model. */
function teach(traces: readonly PackedTrace[]): PredictorState {
  const [first] = traces as [PackedTrace];
  const stranger = traces.find((trace) => getModelKey(trace) !== getModelKey(first));
  if (stranger) {
    throw new ToolError(
      'BAD_ARGUMENT',
      `--trace ${stranger.name} is of another model than ${first.name}; leave it out`,
    );
  }
  const predictor = createPredictor('ensemble', first.header, { looksAhead: true }) as Predictor;
  const scores = new Float32Array(first.header.layers * first.header.experts);
  for (const trace of traces) {
    for (let token = 0; token < trace.tokens; token++) {
      const context = getContext(trace, token);
      predictor.predict(context, scores);
      predictor.observe(context, getRoutes(trace, token));
    }
  }
  return predictor.save();
}
