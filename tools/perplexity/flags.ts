/** The flags of `npm run perplexity`: from arguments to checked values. Pure: `--file` is checked by its reader. */
import { type EngineFlags, engineOptions, getEngineFlags } from '../engine-page/engine-flags.ts';
import { parseFlags, parseNumber, parseText } from '../flags.ts';
import { ToolError } from '../tool-error.ts';

export interface PerplexityFlags extends EngineFlags {
  readonly file: string;
  /** Scoring stops after the document that reaches it; Infinity: the whole file. */
  readonly maxTokens: number;
  /** Every how many documents one is scored, the first included. */
  readonly every: number;
  readonly json: boolean;
}

const options = {
  ...engineOptions,
  file: { type: 'string' },
  'max-tokens': { type: 'string' },
  every: { type: 'string' },
  json: { type: 'boolean' },
} as const;

/** @throws ToolError `BAD_ARGUMENT`, or `UNSUPPORTED` for a value that a later version will take. */
export function parsePerplexityFlags(args: string[]): PerplexityFlags {
  const values = parseFlags(args, options);
  if (values.file === undefined) {
    throw new ToolError('BAD_ARGUMENT', '--file is missing; give a text, or chat documents as JSON Lines (.jsonl)');
  }
  return {
    ...getEngineFlags(values),
    file: parseText('file', values.file),
    maxTokens: parseNumber('max-tokens', values['max-tokens'], { integer: true, min: 1 }) ?? Infinity,
    every: parseNumber('every', values.every, { integer: true, min: 1 }) ?? 1,
    json: values.json ?? false,
  };
}
