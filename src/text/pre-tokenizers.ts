/**
 * How byte-level BPE splits text into words, by the name that a GGUF file gives (`tokenizer.ggml.pre`).
 * Owns the table; an unknown name is refused, never guessed: a wrong split gives other tokens without any error.
 * Patterns and names: llama.cpp src/llama-vocab.cpp, which quotes the models' tokenizer.json; normalisers: the latter.
 */
import type { JsonObject } from '../checkpoint/manifest';
import { EngineError } from '../errors';

export interface PreTokenizer {
  readonly normalizer: JsonObject | null;
  /** Applied one after the other, each to the pieces of the one before; the pieces are words. */
  readonly splits: readonly string[];
  /** A word that is a token is taken whole, without merging. */
  readonly ignoreMerges: boolean;
}

export const GPT2_WORDS = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
/** `(?i:'s|'t|…)` spelled out; U+017F is a lower-case s too. */
export const CONTRACTIONS = "(?:'[sS\u017f]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
/** cl100k and its kin, with up to `digits` digits per word. */
const getCl100k = (digits: string): string =>
  String.raw`${CONTRACTIONS}|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}${digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
const NFC = { type: 'NFC' };

const gpt2: PreTokenizer = { normalizer: null, splits: [GPT2_WORDS], ignoreMerges: false };
const llama3: PreTokenizer = { normalizer: null, splits: [getCl100k('{1,3}')], ignoreMerges: true };
const starcoder: PreTokenizer = { normalizer: null, splits: [String.raw`\p{N}`, GPT2_WORDS], ignoreMerges: false };

const preTokenizers: ReadonlyMap<string, PreTokenizer> = new Map([
  ['gpt-2', gpt2],
  // OLMo and OLMoE use the GPT-NeoX-20B tokenizer: GPT-2's words after NFC.
  ['olmo', { ...gpt2, normalizer: NFC }],
  ['llama-bpe', llama3],
  ['llama3', llama3],
  ['dbrx', { ...llama3, ignoreMerges: false }],
  ['smaug-bpe', { ...llama3, ignoreMerges: false }],
  ['qwen2', { normalizer: NFC, splits: [getCl100k('')], ignoreMerges: false }],
  ['starcoder', starcoder],
  ['smollm', starcoder],
  // What llama.cpp does for files that name no pre-tokenizer of their own.
  [
    'default',
    {
      normalizer: null,
      splits: [String.raw`[\p{P}\$\+<=>\^~\|]+`, GPT2_WORDS, String.raw`\p{N}+`, '[0-9][0-9][0-9]'],
      ignoreMerges: false,
    },
  ],
]);

/** @throws EngineError `UNSUPPORTED` */
export function getPreTokenizer(name: string | null): PreTokenizer {
  const supported = [...preTokenizers.keys()].join(', ');
  if (name === null) {
    throw new EngineError(
      'UNSUPPORTED',
      `the tokenizer names no pre-tokenizer ("tokenizer.ggml.pre"); convert the model again; supported: ${supported}`,
    );
  }
  const preTokenizer = preTokenizers.get(name);
  if (!preTokenizer) {
    throw new EngineError(
      'UNSUPPORTED',
      `pre-tokenizer "${name.slice(0, 80)}" is not supported; supported: ${supported}`,
    );
  }
  return preTokenizer;
}
