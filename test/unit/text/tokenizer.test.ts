import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { readGgufFile } from '../../../src/checkpoint/gguf';
import type { TokenizerData } from '../../../src/checkpoint/manifest';
import { readTokenizerData } from '../../../src/checkpoint/tokenizer-data';
import { createTokenizer, type Tokenizer } from '../../../src/text/tokenizer';
import { memorySource } from '../checkpoint/gguf-writer';
import { startSpentTime } from '../spent-time';

interface Golden {
  texts: string[];
  embedded: number[][];
  byteLevel: { tokens: string[]; merges: string[]; ids: Record<string, number[][]> };
  sentencePiece: {
    tokens: string[];
    scores: number[];
    tokenTypes: number[];
    bosId: number;
    endIds: number[];
    unknownId: number;
    ids: number[][];
  };
}

// Written by test/oracle/make_encodings.py.
const golden: Golden = JSON.parse(
  gunzipSync(readFileSync(new URL('../../golden/encodings.json.gz', import.meta.url))).toString(),
);

const base: TokenizerData = {
  model: 'gpt2',
  pre: 'gpt-2',
  tokens: golden.byteLevel.tokens,
  scores: null,
  tokenTypes: null,
  merges: golden.byteLevel.merges,
  bosId: null,
  endIds: [],
  unknownId: null,
  addBos: false,
  addSpacePrefix: false,
  chatTemplate: null,
};
const { ids: _, ...sentencePieceKeys } = golden.sentencePiece;
const sentencePiece: TokenizerData = {
  ...base,
  ...sentencePieceKeys,
  model: 'llama',
  merges: null,
  addSpacePrefix: true,
};

const plain = { parseSpecial: false, addBos: false };
const special = { parseSpecial: true, addBos: false };

function decode(tokenizer: Tokenizer, ids: readonly number[]): string {
  const bytes = ids.flatMap((id) => [...tokenizer.getTokenBytes(id)]);
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes));
}

async function readEmbedded(): Promise<TokenizerData> {
  const path = new URL('../../../public/models/webmoe-chat-22m-Q4_0.gguf', import.meta.url);
  return readTokenizerData(await readGgufFile(memorySource(new Uint8Array(readFileSync(path)))), 4096);
}

describe('a byte-level tokenizer', () => {
  it.each(Object.keys(golden.byteLevel.ids))('splits and merges hard text as the reference does: %s', (pre) => {
    const tokenizer = createTokenizer({ ...base, pre });
    for (const [i, text] of golden.texts.entries()) {
      const ids = tokenizer.encode(text, plain);
      expect(ids, JSON.stringify(text)).toEqual(golden.byteLevel.ids[pre]![i]);
      const normalized = ['olmo', 'qwen2', 'hunyuan'].includes(pre) ? text.normalize('NFC') : text;
      expect(decode(tokenizer, ids)).toBe(normalized);
    }
  });

  it('tells its pre-tokenizers apart on that text', () => {
    // Names for one thing: lfm2 is llama-bpe, glm4 dbrx, hunyuan qwen2, refact starcoder.
    const { lfm2, glm4, hunyuan, refact, ...others } = golden.byteLevel.ids;
    const seen = Object.values(others).map((ids) => JSON.stringify(ids));
    expect(new Set(seen).size).toBe(seen.length);
    expect([lfm2, glm4, hunyuan, refact]).toEqual(
      ['llama-bpe', 'dbrx', 'qwen2', 'starcoder'].map((name) => others[name]),
    );
  });

  it('gives every byte back from its token', () => {
    const tokenizer = createTokenizer(base);
    const bytes = new Set<number>();
    for (let id = 0; id < tokenizer.vocabSize; id++) {
      const token = tokenizer.getTokenBytes(id);
      if (token.length === 1) bytes.add(token[0]!);
    }
    expect(bytes.size).toBe(256);
  });

  it('encodes a long word quickly', () => {
    const tokenizer = createTokenizer(base);
    const getSpentMs = startSpentTime();
    tokenizer.encode('ab'.repeat(10_000), plain);
    tokenizer.encode(' '.repeat(20_000), plain);
    expect(getSpentMs()).toBeLessThan(5000);
  });

  it('refuses a pre-tokenizer that it does not know, or that is not named', () => {
    expect(() => createTokenizer({ ...base, pre: 'klingon' })).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringContaining('"klingon"') }),
    );
    expect(() => createTokenizer({ ...base, pre: null })).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringContaining('tokenizer.ggml.pre') }),
    );
  });

  it('refuses a kind that it does not know, and keys that do not fit', () => {
    expect(() => createTokenizer({ ...base, model: 'bert' })).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringMatching(/"bert".*gpt2.*llama/) }),
    );
    expect(() => createTokenizer({ ...base, merges: null })).toThrow(expect.objectContaining({ code: 'BAD_FILE' }));
    expect(() => createTokenizer({ ...base, merges: ['ab'] })).toThrow(/"ab" has no space/);
    expect(() => createTokenizer({ ...sentencePiece, scores: null })).toThrow(/scores/);
  });

  it('matches user-defined tokens in any text, and never a control token in plain text', () => {
    const tokens = [...base.tokens, '<think>', '<end>', '__proto__'];
    const first = base.tokens.length;
    const tokenTypes = tokens.map((_token, id) => (id === first ? 4 : id === first + 1 ? 3 : 1));
    const tokenizer = createTokenizer({ ...base, tokens, tokenTypes });
    expect(tokenizer.encode('a<think>b', plain)).toContain(first);
    expect(tokenizer.encode('a<end>b', plain)).not.toContain(first + 1);
    expect(tokenizer.encode('a<end>b', special)).toContain(first + 1);
    expect(decode(tokenizer, [first])).toBe('<think>');
    expect(tokenizer.getTokenBytes(first + 1)).toEqual(new Uint8Array(0));
    expect(tokenizer.isControl(first)).toBe(false);
    expect(tokenizer.isControl(first + 1)).toBe(true);
    expect(decode(tokenizer, tokenizer.encode('__proto__', plain))).toBe('__proto__');
  });
});

describe('the embedded model’s tokenizer', () => {
  let data: TokenizerData;
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    data = await readEmbedded();
    tokenizer = createTokenizer(data);
  });

  it('encodes hard text with special tokens as the reference does', () => {
    for (const [i, text] of golden.texts.entries()) {
      expect(tokenizer.encode(text, special), JSON.stringify(text)).toEqual(golden.embedded[i]);
    }
  });

  it('takes special tokens in plain text for text', () => {
    for (const text of golden.texts) {
      const ids = tokenizer.encode(text, plain);
      expect(ids.some((id) => tokenizer.isControl(id))).toBe(false);
      expect(decode(tokenizer, ids)).toBe(text);
    }
  });

  it('adds the begin token only when asked', () => {
    expect(tokenizer.encode('Hi', { ...plain, addBos: true })).toEqual([0, ...tokenizer.encode('Hi', plain)]);
    expect(tokenizer.encode('', plain)).toEqual([]);
    expect(data.addBos).toBe(false);
  });

  it('knows its control and end tokens', () => {
    expect(tokenizer.vocabSize).toBe(4096);
    expect(tokenizer.bosId).toBe(0);
    expect(tokenizer.endIds).toEqual([5]);
    expect(Array.from({ length: 8 }, (_, id) => tokenizer.isControl(id))).toEqual([
      ...Array<boolean>(6).fill(true),
      false,
      false,
    ]);
    expect(tokenizer.splitSpecial('a<|end|><|user|>b')).toEqual(['a', 5, 3, 'b']);
  });
});

describe('a SentencePiece tokenizer', () => {
  it('encodes hard text as the sentencepiece package does', () => {
    const tokenizer = createTokenizer(sentencePiece);
    for (const [i, text] of golden.texts.entries()) {
      const ids = tokenizer.encode(text, plain);
      expect(ids, JSON.stringify(text)).toEqual(golden.sentencePiece.ids[i]);
    }
  });

  it('gives the text back with its space prefix, and unknown characters through byte tokens', () => {
    const tokenizer = createTokenizer(sentencePiece);
    const text = 'Hello \u{1f3f3}\ufe0f\u200d\u{1f308} \u{20000} <0x0A>\n';
    expect(decode(tokenizer, tokenizer.encode(text, plain))).toBe(` ${text}`);
    const unprefixed = createTokenizer({ ...sentencePiece, addSpacePrefix: false });
    expect(decode(unprefixed, unprefixed.encode(text, plain))).toBe(text);
  });

  it('takes its marks in plain text for text', () => {
    const tokenizer = createTokenizer(sentencePiece);
    expect(tokenizer.encode('<s>a</s>', plain).some((id) => tokenizer.isControl(id))).toBe(false);
    const ids = tokenizer.encode('<s>a</s>', special);
    expect(ids[0]).toBe(sentencePiece.bosId);
    expect(ids.at(-1)).toBe(sentencePiece.endIds[0]);
  });
});
