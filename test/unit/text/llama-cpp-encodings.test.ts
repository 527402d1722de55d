/**
 * Every pre-tokenizer three ways: from a tokenizer.json, from the keys of a GGUF file, and as llama.cpp encodes by those
 * keys. Where llama.cpp departs from the tokenizers package, EXCUSES says in which texts; there webmoe gives the ids of
 * one of them, the package's wherever a file's keys allow (./tokenizer.test.ts, ./real-tokenizers.test.ts).
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { TokenizerData } from '../../../src/checkpoint/manifest';
import { createTokenizer } from '../../../src/text/tokenizer';
import { type GoldenCheckpoint, readCheckpointTokenizer, toGgufKeys } from '../../golden/tokenizer-keys';

interface Rules {
  readonly normalizer: object | null;
  readonly pre_tokenizer: object;
  readonly ignore_merges: boolean;
}

const read = (file: string): Buffer => readFileSync(new URL(`../../golden/${file}`, import.meta.url));
const made = JSON.parse(gunzipSync(read('encodings.json.gz')).toString()) as {
  readonly texts: readonly string[];
  readonly byteLevel: {
    readonly tokens: readonly string[];
    readonly merges: readonly string[];
    readonly ids: Readonly<Record<string, readonly (readonly number[])[]>>;
    readonly rules: Readonly<Record<string, Rules>>;
  };
  readonly sentencePiece: Pick<TokenizerData, 'tokens' | 'scores' | 'tokenTypes' | 'bosId' | 'endIds' | 'unknownId'> & {
    readonly ids: readonly (readonly number[])[];
  };
};
const real = JSON.parse(gunzipSync(read('real-tokenizers.json.gz')).toString()) as {
  readonly texts: readonly string[];
  readonly models: Readonly<Record<string, GoldenCheckpoint & { readonly ids: readonly (readonly number[])[] }>>;
};
/** By vocabulary: its ids of the texts, by index, that have not the reference's. */
type Others = Readonly<Record<string, Readonly<Record<string, readonly number[]>>>>;
const llamaCpp = JSON.parse(read('llama-cpp-encodings.json').toString()) as { made: Others; real: Others };

/** It composes no characters. */
const NOT_COMPOSED = (text: string): boolean => text !== text.normalize('NFC');
/** It takes marks for no letters, and of upper and lower case knows ASCII's only; U+017F is no s to it. */
const MARKS_OR_CASE = (text: string): boolean => /\p{M}|\u017f|[^\P{Lu}A-Z]/u.test(text);
const EXCUSES: Readonly<Record<string, (text: string) => boolean>> = {
  olmo: NOT_COMPOSED,
  qwen2: NOT_COMPOSED,
  hunyuan: NOT_COMPOSED,
  'gpt-4o': MARKS_OR_CASE,
  tekken: MARKS_OR_CASE,
  // It keeps digits together, and a separator of lines with the letters behind it.
  'deepseek-llm': (text) => /\p{N}\p{N}|[\u2028\u2029]/u.test(text),
  // Gemma's mark-up tokens are ordinary ones; one of them looks like an end token, and is made one. A file's keys cannot
  // tell SentencePiece's space in a text from a space.
  gemma2: (text) => text.includes('</s>') || text.includes('\u2581'),
};

const plain = { parseSpecial: false, addBos: false };
const blank: TokenizerData = {
  model: 'gpt2',
  pre: null,
  tokens: made.byteLevel.tokens,
  scores: null,
  tokenTypes: null,
  merges: made.byteLevel.merges,
  bosId: null,
  endIds: [],
  unknownId: null,
  addBos: false,
  addSpacePrefix: false,
  chatTemplate: null,
};

/** Expects the ids that llama.cpp gives but for excused texts. */
function expectLlamaCpp(
  data: TokenizerData,
  texts: readonly string[],
  reference: readonly (readonly number[])[],
  others: Others[string] | undefined,
  isExcused: (text: string) => boolean = () => false,
): void {
  expect(others, 'run test/oracle/run_llama_cpp_tokenizers.mjs').toBeDefined();
  const tokenizer = createTokenizer(data);
  let same = 0;
  for (const [i, text] of texts.entries()) {
    const ids = tokenizer.encode(text, plain);
    const other = others?.[i];
    if (!other) same++;
    else expect(isExcused(text), `${JSON.stringify(text)}: llama.cpp gives ${other}`).toBe(true);
    expect([reference[i], other], JSON.stringify(text)).toContainEqual(ids);
  }
  expect(same).toBeGreaterThan(texts.length * 0.75);
}

describe.each(Object.keys(made.byteLevel.ids))('%s', (pre) => {
  const reference = made.byteLevel.ids[pre] ?? [];

  it('gives the ids of llama.cpp from the keys of a GGUF file', () => {
    expectLlamaCpp({ ...blank, pre }, made.texts, reference, llamaCpp.made[pre], EXCUSES[pre]);
  });

  it('gives the same from a tokenizer.json', () => {
    const { ignore_merges, ...rules } = made.byteLevel.rules[pre] as Rules;
    const vocab = Object.fromEntries(made.byteLevel.tokens.map((token, id) => [token, id]));
    const model = { type: 'BPE', vocab, merges: made.byteLevel.merges, ignore_merges };
    const tokenizer = { ...rules, model, added_tokens: [] };
    const data = readCheckpointTokenizer({ pre, vocabSize: made.byteLevel.tokens.length, tokenizer, config: {} });
    const { encode } = createTokenizer(data);
    for (const [i, text] of made.texts.entries()) {
      expect(encode(text, plain), JSON.stringify(text)).toEqual(reference[i]);
    }
  });
});

it('a SentencePiece vocabulary gives the ids of llama.cpp', () => {
  const { ids, ...keys } = made.sentencePiece;
  const data = { ...blank, ...keys, model: 'llama', merges: null, addSpacePrefix: true };
  expectLlamaCpp(data, made.texts, ids, llamaCpp.made.llama);
});

it.each(Object.entries(real.models))(
  '%s gives the ids of llama.cpp from the keys of a GGUF file',
  (name, checkpoint) => {
    const excuse = EXCUSES[name] ?? EXCUSES[checkpoint.pre ?? ''];
    expectLlamaCpp(toGgufKeys(checkpoint), real.texts, checkpoint.ids, llamaCpp.real[name], excuse);
  },
);
