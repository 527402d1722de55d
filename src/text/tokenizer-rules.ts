/**
 * How a tokenizer prepares and splits text, in the words of @huggingface/tokenizers: from a tokenizer.json, or from the
 * name that a GGUF file gives. Owns the corrections of a tokenizer.json where the library reads it differently.
 */
import type { JsonObject, TokenizerData, TokenizerRules } from '../checkpoint/manifest';
import { EngineError } from '../errors';
import { CONTRACTIONS, GPT2_WORDS, getPreTokenizer } from './pre-tokenizers';

/** The rules of a byte-level tokenizer. @throws EngineError `UNSUPPORTED` */
export function getByteLevelRules({ rules, pre }: TokenizerData): TokenizerRules {
  if (rules) return { ...rules, preTokenizer: rules.preTokenizer && adapt(rules.preTokenizer) };
  const { normalizer, splits, ignoreMerges } = getPreTokenizer(pre);
  const preTokenizer = { type: 'Sequence', pretokenizers: [...splits.map(splitBy), toBytes(false)] };
  return { normalizer, preTokenizer, ignoreMerges, fuseUnknown: false };
}

const splitBy = (Regex: string): JsonObject => ({
  type: 'Split',
  pattern: { Regex },
  behavior: 'Isolated',
  invert: false,
});

const toBytes = (addPrefixSpace: boolean): JsonObject => ({
  type: 'ByteLevel',
  add_prefix_space: addPrefixSpace,
  use_regex: false,
});

function adapt(part: JsonObject): JsonObject {
  const { type, pretokenizers, pattern } = part;
  if (type === 'Sequence' && Array.isArray(pretokenizers)) {
    return { ...part, pretokenizers: (pretokenizers as JsonObject[]).map(adapt) };
  }
  if (type === 'ByteLevel') {
    const addPrefixSpace = part.add_prefix_space === true;
    if (part.use_regex === false) return toBytes(addPrefixSpace);
    if (addPrefixSpace) {
      throw new EngineError(
        'UNSUPPORTED',
        'tokenizer.json: a "ByteLevel" pre-tokenizer with "add_prefix_space" and "use_regex"; one of the two is possible',
      );
    }
    // GPT-2's pattern is spelled out: the library's own copy takes U+FEFF for white space and U+0085 for none.
    return { type: 'Sequence', pretokenizers: [splitBy(GPT2_WORDS), toBytes(false)] };
  }
  // The library's own knows ASCII's digits only; tokenizers takes all numbers (char::is_numeric).
  if (type === 'Digits') return splitBy(part.individual_digits === true ? String.raw`\p{N}` : String.raw`\p{N}+`);
  if (type === 'Split' && typeof pattern === 'object' && pattern !== null) {
    const regex: unknown = Reflect.get(pattern, 'Regex');
    if (typeof regex === 'string') return { ...part, pattern: { Regex: adaptPattern(regex) } };
  }
  return part;
}

/** Oniguruma's syntax where JavaScript has none; U+017F is a lower-case s in a group that ignores case. */
function adaptPattern(pattern: string): string {
  const adapted = pattern.replaceAll("(?i:'s|'t|'re|'ve|'m|'ll|'d)", CONTRACTIONS);
  try {
    new RegExp(adapted, 'u');
  } catch (cause) {
    throw new EngineError(
      'UNSUPPORTED',
      `tokenizer.json splits by ${JSON.stringify(pattern.slice(0, 200))}, which is no pattern in JavaScript; use a GGUF file of the model`,
      { cause },
    );
  }
  return adapted;
}
