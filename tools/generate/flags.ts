/**
 * The flags of `npm run generate`: from arguments to checked values, with an error that names flag, value and what is
 * allowed. Pure: never opens a file, so what needs one (`--messages`, `--model`, `--trace`) is checked by its user.
 */
import type { DraftKind, DraftOptions, PagingOptions, SamplingOptions } from '../../src/engine/engine.ts';
import { predictorNames } from '../../src/routing/predictors.ts';
import { type EngineFlags, engineOptions, getEngineFlags } from '../engine-page/engine-flags.ts';
import { parseFlags, parseNumber, parseOneOf, parseSwitch, parseText } from '../flags.ts';
import { ToolError } from '../tool-error.ts';

export type PromptFlag =
  | { readonly kind: 'text'; readonly text: string; readonly raw: boolean }
  | { readonly kind: 'messagesFile'; readonly path: string }
  | { readonly kind: 'tokenIds'; readonly tokenIds: readonly number[] };

export interface GenerateFlags extends EngineFlags {
  readonly prompt: PromptFlag;
  readonly maxTokens: number;
  readonly sampling: SamplingOptions;
  readonly stop: readonly string[];
  readonly ignoreEos: boolean;
  /** Only what was given; the engine has the defaults. */
  readonly paging: PagingOptions;
  /** Only what was given. */
  readonly draft: DraftOptions;
  readonly topLogprobs?: number;
  readonly json: boolean;
  /** File for the routing trace. */
  readonly trace?: string;
}

const options = {
  ...engineOptions,
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
  predictor: { type: 'string' },
  'segment-layers': { type: 'string' },
  'run-ahead': { type: 'string' },
  'read-back-every-layer': { type: 'boolean' },
  draft: { type: 'string' },
  'draft-tokens': { type: 'string' },
  'top-logprobs': { type: 'string' },
  json: { type: 'boolean' },
  trace: { type: 'string' },
} as const;

const draftKinds = ['off', 'self', 'ngram', 'auto'] as const satisfies readonly DraftKind[];

/** @throws ToolError `BAD_ARGUMENT`, or `UNSUPPORTED` for a value that a later version will take. */
export function parseGenerateFlags(args: string[]): GenerateFlags {
  const values = parse(args);
  const topLogprobs = parseNumber('top-logprobs', values['top-logprobs'], { integer: true, min: 0 });
  const json = values.json ?? false;
  return {
    ...getEngineFlags(values),
    prompt: parsePrompt(values),
    maxTokens: parseNumber('max-tokens', values['max-tokens'], { integer: true, min: 1 }) ?? 128,
    sampling: parseSampling(values),
    stop: (values.stop ?? []).map((text) => parseText('stop', text)),
    ignoreEos: values['ignore-eos'] ?? false,
    paging: parsePaging(values),
    draft: parseDraft(values),
    // The JSON object always lists the chosen tokens' log-probabilities.
    ...(topLogprobs !== undefined || json ? { topLogprobs: topLogprobs ?? 0 } : {}),
    json,
    ...(values.trace === undefined ? {} : { trace: parseText('trace', values.trace) }),
  };
}

const parse = (args: string[]) => parseFlags(args, options);
type Values = ReturnType<typeof parse>;

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

function parsePaging(values: Values): PagingOptions {
  const segmentLayers = parseNumber('segment-layers', values['segment-layers'], { integer: true, min: 1 });
  const runAhead = values['run-ahead'];
  return {
    ...(values.predictor === undefined ? {} : { predictor: parseOneOf('predictor', values.predictor, predictorNames) }),
    ...(segmentLayers === undefined ? {} : { segmentLayers }),
    ...(runAhead === undefined ? {} : { runAhead: parseSwitch('run-ahead', runAhead) }),
    ...(values['read-back-every-layer'] ? { readBackEveryLayer: true } : {}),
  };
}

function parseDraft(values: Values): DraftOptions {
  const tokens = parseNumber('draft-tokens', values['draft-tokens'], { integer: true, min: 1 });
  return {
    ...(values.draft === undefined ? {} : { kind: parseOneOf('draft', values.draft, draftKinds) }),
    ...(tokens === undefined ? {} : { tokens }),
  };
}
