/**
 * Strict parsing of a command's flags: every error names flag, value and what is allowed.
 * Pure; knows no command's flags.
 */
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { ToolError } from './tool-error.ts';

type FlagOptions = NonNullable<ParseArgsConfig['options']>;

/**
 * The values of the flags in `options`; each may be given once unless it is `multiple`.
 * @throws ToolError `BAD_ARGUMENT`
 */
export function parseFlags<const T extends FlagOptions>(args: readonly string[], options: T) {
  const repeatable = Object.keys(options).filter((name) => options[name]?.multiple);
  try {
    const { values, tokens } = parseArgs({
      args: joinDashedValues(args, options),
      options,
      allowPositionals: false,
      tokens: true,
    });
    const seen = new Set<string>();
    for (const token of tokens) {
      if (token.kind !== 'option') continue;
      if (seen.has(token.name) && !repeatable.includes(token.name)) {
        throw new Error(
          `--${token.name} is given twice; only ${repeatable.map((name) => `--${name}`).join(' and ')} may be`,
        );
      }
      seen.add(token.name);
    }
    return values;
  } catch (error) {
    const allowed = Object.keys(options).map((name) => `--${name}`);
    throw new ToolError('BAD_ARGUMENT', `${(error as Error).message}. Allowed flags: ${allowed.join(' ')}`);
  }
}

/**
 * `--seed -1` as `--seed=-1`: parseArgs refuses values that begin with a dash, before they can be checked by name.
 * What is a flag of ours stays a flag, except behind --chrome-arg.
 */
function joinDashedValues(args: readonly string[], options: FlagOptions): string[] {
  const getFlag = (arg: string) => {
    const name = /^--([a-z-]+)(=|$)/.exec(arg)?.[1] ?? '';
    return Object.hasOwn(options, name) ? options[name] : undefined;
  };
  const joined: string[] = [];
  for (let at = 0; at < args.length; at++) {
    const [arg = '', next = ''] = [args[at], args[at + 1]];
    const takesValue = getFlag(arg)?.type === 'string' && !arg.includes('=');
    if (takesValue && next.startsWith('-') && (arg === '--chrome-arg' || !getFlag(next))) {
      joined.push(`${arg}=${next}`);
      at++;
    } else {
      joined.push(arg);
    }
  }
  return joined;
}

export function parseText(flag: string, text: string): string {
  if (text === '') throw new ToolError('BAD_ARGUMENT', `--${flag} is empty; give at least one character`);
  return text;
}

/** `on` or `off`. */
export function parseSwitch(name: string, value: string): boolean {
  return parseOneOf(name, value, ['on', 'off']) === 'on';
}

export function parseOneOf<const T extends string>(flag: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((name) => name === value);
  if (found === undefined) {
    throw new ToolError('BAD_ARGUMENT', `--${flag} is "${value}"; allowed: ${allowed.join(', ')}`);
  }
  return found;
}

export interface NumberRange {
  readonly integer?: boolean;
  readonly min?: number;
  readonly above?: number;
  readonly max?: number;
}

export function parseNumber(flag: string, text: string | undefined, range: NumberRange): number | undefined {
  if (text === undefined) return undefined;
  const { integer = false, min = -Infinity, above = -Infinity, max = Infinity } = range;
  const value = /^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : Number.NaN;
  const inRange = Number.isFinite(value) && value >= min && value > above && value <= max;
  if (inRange && (!integer || Number.isSafeInteger(value))) return value;
  const low = above > -Infinity ? `above ${above}` : `${min} or more`;
  const high = max < Infinity ? `, at most ${max}` : '';
  throw new ToolError(
    'BAD_ARGUMENT',
    `--${flag} is "${text}"; allowed: a ${integer ? 'whole ' : ''}number, ${low}${high}`,
  );
}
