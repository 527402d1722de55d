/**
 * The flags of `npm run generate`: from arguments to checked values, with an error that names flag, value and what is
 * allowed. Pure: never opens a file, so what needs one (`--messages`, `--model`) is checked by its reader.
 */
import { parseArgs } from 'node:util';
import type { ExpertBudget, SamplingOptions } from '../../src/engine/engine.ts';
import type { StoreKind } from '../../src/store/model-store.ts';
import { ToolError } from '../tool-error.ts';

export type PromptFlag =
  | { readonly kind: 'text'; readonly text: string; readonly raw: boolean }
  | { readonly kind: 'messagesFile'; readonly path: string }
  | { readonly kind: 'tokenIds'; readonly tokenIds: readonly number[] };

export interface GenerateFlags {
  /** Path or URL; absent: the embedded model. */
  readonly model?: string;
  readonly prompt: PromptFlag;
  readonly maxTokens: number;
  readonly sampling: SamplingOptions;
  readonly stop: readonly string[];
  readonly ignoreEos: boolean;
  readonly contextLength?: number;
  readonly expertBudget: ExpertBudget;
  readonly store?: StoreKind;
  readonly topLogprobs?: number;
  readonly json: boolean;
  readonly profile?: string;
  readonly chromeArgs: readonly string[];
}

const options = {
  model: { type: 'string' },
  quantize: { type: 'string' },
  prompt: { type: 'string' },
  raw: { type: 'boolean' },
  messages: { type: 'string' },
  'token-ids': { type: 'string' },
  'max-tokens': { type: 'string' },
  temperature: { type: 'string' },
  'top-k': { type: 'string' },
  'top-p': { type: 'string' },
  'min-p': { type: 'string' },
  seed: { type: 'string' },
  stop: { type: 'string', multiple: true },
  'ignore-eos': { type: 'boolean' },
  context: { type: 'string' },
  'expert-budget': { type: 'string' },
  store: { type: 'string' },
  'top-logprobs': { type: 'string' },
  json: { type: 'boolean' },
  profile: { type: 'string' },
  adapter: { type: 'string' },
  'chrome-arg': { type: 'string', multiple: true },
} as const;

const repeatable = Object.entries(options).flatMap(([name, option]) => ('multiple' in option ? [name] : []));

/** @throws ToolError `BAD_ARGUMENT`, or `UNSUPPORTED` for a value that a later version will take. */
export function parseGenerateFlags(args: string[]): GenerateFlags {
  const values = parse(args);
  if (values.quantize !== undefined) {
    assertOneOf('quantize', values.quantize, ['q4_0', 'q8_0']);
    throw new ToolError('UNSUPPORTED', `--quantize is for safetensors folders, which this version does not read yet`);
  }
  const topLogprobs = parseNumber('top-logprobs', values['top-logprobs'], { integer: true, min: 0 });
  const contextLength = parseNumber('context', values.context, { integer: true, min: 1 });
  const store = parseStore(values.store);
  const json = values.json ?? false;
  return {
    ...(values.model === undefined ? {} : { model: parseText('model', values.model) }),
    prompt: parsePrompt(values),
    maxTokens: parseNumber('max-tokens', values['max-tokens'], { integer: true, min: 1 }) ?? 128,
    sampling: parseSampling(values),
    stop: (values.stop ?? []).map((text) => parseText('stop', text)),
    ignoreEos: values['ignore-eos'] ?? false,
    ...(contextLength === undefined ? {} : { contextLength }),
    expertBudget: parseExpertBudget(values['expert-budget'] ?? '100%'),
    ...(store === undefined ? {} : { store }),
    // The JSON object always lists the chosen tokens' log-probabilities.
    ...(topLogprobs !== undefined || json ? { topLogprobs: topLogprobs ?? 0 } : {}),
    json,
    ...(values.profile === undefined ? {} : { profile: parseText('profile', values.profile) }),
    chromeArgs: parseChromeArgs(values.adapter, values['chrome-arg'] ?? []),
  };
}

type Values = ReturnType<typeof parse>;

/**
 * `--seed -1` as `--seed=-1`: parseArgs refuses values that begin with a dash, before they can be checked by name.
 * What is a flag of ours stays a flag, except behind --chrome-arg.
 */
function joinDashedValues(args: readonly string[]): string[] {
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

function getFlag(arg: string): { readonly type: 'string' | 'boolean' } | undefined {
  const name = /^--([a-z-]+)(=|$)/.exec(arg)?.[1] ?? '';
  return Object.hasOwn(options, name) ? options[name as keyof typeof options] : undefined;
}

function parse(args: string[]) {
  try {
    const { values, tokens } = parseArgs({
      args: joinDashedValues(args),
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

function parsePrompt(values: Values): PromptFlag {
  const { prompt, messages, raw = false } = values;
  const ids = values['token-ids'];
  const given = [prompt, messages, ids].filter((value) => value !== undefined);
  if (given.length !== 1) {
    throw new ToolError(
      'BAD_ARGUMENT',
      `the prompt is given ${given.length} times; give exactly one of --prompt TEXT, --messages FILE.json, --token-ids 1,2,3`,
    );
  }
  if (prompt !== undefined) return { kind: 'text', text: prompt, raw };
  if (raw) throw new ToolError('BAD_ARGUMENT', '--raw goes with --prompt only; leave it out');
  if (messages !== undefined) return { kind: 'messagesFile', path: parseText('messages', messages) };
  const tokenIds = (ids ?? '').split(',').map((part) => (/^\s*\d+\s*$/.test(part) ? Number(part) : Number.NaN));
  if (tokenIds.every((id) => id <= 0xffff_ffff)) return { kind: 'tokenIds', tokenIds };
  throw new ToolError(
    'BAD_ARGUMENT',
    `--token-ids is "${ids}"; allowed: token numbers from 0 with commas between, as 1,2,3`,
  );
}

function parseSampling(values: Values): SamplingOptions {
  const temperature = parseNumber('temperature', values.temperature, { min: 0 }) ?? 0;
  const topK = parseNumber('top-k', values['top-k'], { integer: true, min: 0 });
  const topP = parseNumber('top-p', values['top-p'], { above: 0, max: 1 });
  const minP = parseNumber('min-p', values['min-p'], { min: 0, max: 1 });
  const seed = parseNumber('seed', values.seed, { integer: true, min: 0, max: 0xffff_ffff }) ?? 0;
  return {
    temperature,
    seed,
    ...(topK === undefined ? {} : { topK }),
    ...(topP === undefined ? {} : { topP }),
    ...(minP === undefined ? {} : { minP }),
  };
}

function parseExpertBudget(text: string): ExpertBudget {
  const percent = /^(\d+(?:\.\d+)?)%$/.exec(text)?.[1];
  if (percent !== undefined && Number(percent) > 0 && Number(percent) <= 100) return { percent: Number(percent) };
  if (/^\d+$/.test(text) && Number(text) > 0 && Number.isSafeInteger(Number(text))) return { bytes: Number(text) };
  throw new ToolError(
    'BAD_ARGUMENT',
    `--expert-budget is "${text}"; allowed: above 0% to 100%, or a whole number of bytes`,
  );
}

function parseStore(text: string | undefined): StoreKind | undefined {
  if (text === undefined) return undefined;
  assertOneOf('store', text, ['indexeddb', 'opfs', 'memory', 'auto']);
  if (text === 'opfs') {
    throw new ToolError('UNSUPPORTED', '--store opfs is not in this version; use indexeddb, memory or auto');
  }
  return text === 'indexeddb' || text === 'memory' ? text : undefined;
}

/** `--adapter` picks what Chromium's WebGPU runs on; further names may be given by --chrome-arg. */
function parseChromeArgs(adapter: string | undefined, chromeArgs: readonly string[]): string[] {
  for (const arg of chromeArgs) {
    if (!/^--[a-z]/.test(arg)) {
      throw new ToolError(
        'BAD_ARGUMENT',
        `--chrome-arg is "${arg}"; allowed: one switch of Chromium, as --chrome-arg=--switch=value`,
      );
    }
  }
  if (adapter === undefined) return [...chromeArgs];
  assertOneOf('adapter', adapter, ['default', 'swiftshader']);
  return [`--use-webgpu-adapter=${adapter}`, ...chromeArgs];
}

function parseText(flag: string, text: string): string {
  if (text === '') throw new ToolError('BAD_ARGUMENT', `--${flag} is empty; give at least one character`);
  return text;
}

function assertOneOf(flag: string, value: string, allowed: readonly string[]): void {
  if (!allowed.includes(value)) {
    throw new ToolError('BAD_ARGUMENT', `--${flag} is "${value}"; allowed: ${allowed.join(', ')}`);
  }
}

interface NumberRange {
  readonly integer?: boolean;
  readonly min?: number;
  readonly above?: number;
  readonly max?: number;
}

function parseNumber(flag: string, text: string | undefined, range: NumberRange): number | undefined {
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
