/** The flags of `npm run perf`: from arguments to checked values. Pure. */
import { engineOptions, getEngineFlags } from '../engine-page/engine-flags.ts';
import { parseFlags, parseNumber, parseOneOf } from '../flags.ts';
import { ToolError } from '../tool-error.ts';
import { type TableName, tableNames } from './results.ts';

export interface PerfFlags {
  /** In the order they are printed. */
  readonly tables: readonly TableName[];
  readonly runtime: 'browser' | 'node';
  readonly runs: number;
  readonly tokens: number;
  /** Chat documents whose first messages are asked, spread evenly over the file; null: the tool's own. */
  readonly prompts: { readonly path: string; readonly count: number } | null;
  readonly chromeArgs: readonly string[];
  readonly json: boolean;
}

/** These need IndexedDB or a bundler's way of loading a grammar engine, or compare what runs in browsers. */
const browserTables: readonly TableName[] = ['structured', 'peers', 'faults', 'storage'];

const options = {
  table: { type: 'string', multiple: true },
  runtime: { type: 'string' },
  runs: { type: 'string' },
  tokens: { type: 'string' },
  prompts: { type: 'string' },
  'prompt-count': { type: 'string' },
  adapter: engineOptions.adapter,
  'chrome-arg': engineOptions['chrome-arg'],
  json: { type: 'boolean' },
} as const;

/** @throws ToolError `BAD_ARGUMENT`, or `UNSUPPORTED` for a table that needs a browser. */
export function parsePerfFlags(args: string[]): PerfFlags {
  const values = parseFlags(args, options);
  const runtime = parseOneOf('runtime', values.runtime ?? 'browser', ['browser', 'node']);
  const count = parseNumber('prompt-count', values['prompt-count'], { integer: true, min: 1, max: 1000 });
  if (count !== undefined && values.prompts === undefined) {
    throw new ToolError('BAD_ARGUMENT', `--prompt-count ${count} counts those of --prompts FILE; give both`);
  }
  for (const flag of ['adapter', 'chrome-arg'] as const) {
    if (runtime === 'browser' || values[flag] === undefined) continue;
    throw new ToolError(
      'BAD_ARGUMENT',
      `--${flag} is for Chromium, and --runtime node starts none; leave it out, or ask for --runtime browser`,
    );
  }
  return {
    tables: parseTables(values.table ?? [], runtime),
    runtime,
    runs: parseNumber('runs', values.runs, { integer: true, min: 1, max: 1000 }) ?? 3,
    // The first token comes from the prompt: with fewer than two, nothing is decoded.
    tokens: parseNumber('tokens', values.tokens, { integer: true, min: 2, max: 512 }) ?? 64,
    prompts: values.prompts === undefined ? null : { path: values.prompts, count: count ?? 12 },
    chromeArgs: getEngineFlags({ adapter: values.adapter, 'chrome-arg': values['chrome-arg'] }).chromeArgs,
    json: values.json ?? false,
  };
}

function parseTables(names: readonly string[], runtime: PerfFlags['runtime']): TableName[] {
  const here = tableNames.filter((name) => runtime === 'browser' || !browserTables.includes(name));
  const wanted = names.map((name) => {
    const table = parseOneOf('table', name, tableNames);
    const found = here.find((other) => other === table);
    if (found !== undefined) return found;
    throw new ToolError(
      'UNSUPPORTED',
      `--table ${table} measures what only browsers have and needs --runtime browser; there are ${here.join(', ')}`,
    );
  });
  return wanted.length === 0 ? here : here.filter((name) => wanted.includes(name));
}
