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

/** Words of o200k: an upper-case part, a lower-case part, and with `contractions` what follows an apostrophe. */
const getO200k = (contractions: string, digits: string): string => {
  const [upper, lower] = [String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`];
  const start = String.raw`[^\r\n\p{L}\p{N}]?`;
  return (
    `${start}${upper}*${lower}+${contractions}|${start}${upper}+${lower}*${contractions}|` +
    String.raw`\p{N}${digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
  );
};

/** Letters with case as DeepSeek's first tokenizer lists them; later additions to Unicode are none of them. */
const CASED = [
  'A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af',
  '\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5',
  '\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba',
  '\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45',
  '\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe',
  '\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102',
  '\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139',
  '\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3',
  '\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06',
  '\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}',
  '\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}\u{1e900}-\u{1e943}',
].join('');
const DEEPSEEK_LLM = [
  String.raw`[\r\n]`,
  String.raw`\s?[${CASED}]+`,
  String.raw`\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+`,
  String.raw`\s+$`,
  String.raw`[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+`,
  String.raw`\p{N}`,
];
const DEEPSEEK_V3 = [
  String.raw`\p{N}{1,3}`,
  String.raw`[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+`,
  String.raw`[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_\x60{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
];

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
  ['glm4', { ...llama3, ignoreMerges: false }],
  ['chatglm-bpe', { ...llama3, ignoreMerges: false }],
  ['lfm2', llama3],
  ['gpt-4o', { normalizer: null, splits: [getO200k(`${CONTRACTIONS}?`, '{1,3}')], ignoreMerges: false }],
  ['tekken', { normalizer: null, splits: [getO200k('', '')], ignoreMerges: true }],
  ['deepseek-llm', { normalizer: null, splits: DEEPSEEK_LLM, ignoreMerges: false }],
  ['deepseek-v3', { normalizer: null, splits: DEEPSEEK_V3, ignoreMerges: false }],
  ['hunyuan-dense', { normalizer: null, splits: DEEPSEEK_V3, ignoreMerges: false }],
  // Hunyuan's tokenizer is Qwen's with another vocabulary.
  ['hunyuan', { normalizer: NFC, splits: [getCl100k('')], ignoreMerges: false }],
  ['starcoder', starcoder],
  // Granite's files say so.
  ['refact', starcoder],
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
