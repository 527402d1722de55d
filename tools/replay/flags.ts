/**
 * The flags of `npm run replay`: from arguments to checked values. Pure: what needs the trace is checked by the command.
 */
import { parseArgs } from 'node:util';
import { policyNames } from '../../src/routing/replay/policies.ts';
import { predictorNames } from '../../src/routing/replay/predictors.ts';
import type { ReplayOptions } from '../../src/routing/replay/rows.ts';
import { ToolError } from '../tool-error.ts';

export interface ReplayFlags extends ReplayOptions {
  readonly traces: readonly string[];
  /** Traces that predictors learn from before each replay; nothing of them is counted. */
  readonly learn: readonly string[];
  readonly json: boolean;
}

const options = {
  trace: { type: 'string', multiple: true },
  learn: { type: 'string', multiple: true },
  slots: { type: 'string', multiple: true },
  policy: { type: 'string', multiple: true },
  predictor: { type: 'string', multiple: true },
  'prefetch-pages': { type: 'string' },
  'min-probability': { type: 'string' },
  seed: { type: 'string' },
  json: { type: 'boolean' },
} as const;

/** @throws ToolError `BAD_ARGUMENT` */
export function parseReplayFlags(args: string[]): ReplayFlags {
  const values = parse(args);
  const traces = values.trace ?? [];
  if (traces.length === 0) {
    throw new ToolError('BAD_ARGUMENT', '--trace is missing; give at least one file that generate --trace wrote');
  }
  if (!values.slots) {
    throw new ToolError(
      'BAD_ARGUMENT',
      '--slots is missing; give the number of slots per layer, for example --slots 16',
    );
  }
  const prefetchPages = values['prefetch-pages'];
  return {
    traces,
    learn: values.learn ?? [],
    slots: [...new Set(values.slots.map((text) => parseInteger('slots', text, 1)))],
    policies: parseNames('policy', values.policy ?? ['lru'], policyNames),
    predictors: parseNames('predictor', values.predictor ?? ['none'], predictorNames),
    ...(prefetchPages === undefined ? {} : { prefetchPages: parseInteger('prefetch-pages', prefetchPages, 0) }),
    minProbability: parseShare('min-probability', values['min-probability'] ?? '0'),
    seed: parseInteger('seed', values.seed ?? '0', 0, 0xffff_ffff),
    json: values.json ?? false,
  };
}

function parse(args: string[]) {
  try {
    const { values, tokens } = parseArgs({ args, options, allowPositionals: false, tokens: true });
    const seen = new Set<string>();
    for (const token of tokens) {
      if (token.kind !== 'option') continue;
      const repeatable = 'multiple' in options[token.name as keyof typeof options];
      if (seen.has(token.name) && !repeatable) {
        throw new Error(`--${token.name} is given twice; give it once`);
      }
      seen.add(token.name);
    }
    return values;
  } catch (error) {
    const allowed = Object.keys(options).map((name) => `--${name}`);
    throw new ToolError('BAD_ARGUMENT', `${(error as Error).message}. Allowed flags: ${allowed.join(' ')}`);
  }
}

function parseNames<T extends string>(flag: string, names: readonly string[], allowed: readonly T[]): T[] {
  for (const name of names) {
    if (allowed.includes(name as T)) continue;
    throw new ToolError('BAD_ARGUMENT', `--${flag} is "${name}"; allowed: ${allowed.join(', ')}`);
  }
  return [...new Set(names)] as T[];
}

function parseInteger(flag: string, text: string, min: number, max = 0xffff): number {
  const value = /^-?\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new ToolError('BAD_ARGUMENT', `--${flag} is "${text}"; allowed: a whole number from ${min} to ${max}`);
}

function parseShare(flag: string, text: string): number {
  const value = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : Number.NaN;
  if (value >= 0 && value <= 1) return value;
  throw new ToolError('BAD_ARGUMENT', `--${flag} is "${text}"; allowed: a number from 0 to 1`);
}
