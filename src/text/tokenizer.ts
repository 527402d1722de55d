/**
 * Text to token ids and token ids to bytes, for the tokenizer that a checkpoint carries.
 * Builds a tokenizer.json from the GGUF keys for @huggingface/tokenizers, which does the BPE (docs/decisions/0008).
 * Owns the treatment of special tokens: text is searched for them only when the caller says so.
 */
import { Tokenizer as BpeTokenizer } from '@huggingface/tokenizers';
import type { JsonObject, TokenizerData } from '../checkpoint/manifest';
import { assert, EngineError } from '../errors';
import { decodeByteLevel } from './byte-level';
import { buildMerges, SPACE_SYMBOL } from './sentencepiece';
import { getByteLevelRules } from './tokenizer-rules';

export interface EncodeOptions {
  /** Whether special tokens written in the text become those tokens; otherwise they are text like any other. */
  readonly parseSpecial: boolean;
  /** Whether the begin-of-sequence token comes first, where the vocabulary has one. */
  readonly addBos: boolean;
}

export interface Tokenizer {
  readonly vocabSize: number;
  readonly bosId: number | null;
  /** Tokens that end a generation. */
  readonly endIds: readonly number[];
  encode(text: string, options: EncodeOptions): number[];
  /** The text cut at special tokens: their ids, and the stretches between them, never empty. */
  splitSpecial(text: string): (number | string)[];
  /** Texts of the special tokens. */
  readonly specialTexts: readonly string[];
  /** Bytes that a token adds to the text; none for control tokens. */
  getTokenBytes(id: number): Uint8Array<ArrayBuffer>;
  /** Whether a token is a mark and no text. */
  isControl(id: number): boolean;
  /** How a mark is written. */
  getMark(id: number): string;
}

/** GGUF token types (`tokenizer.ggml.token_type`). */
const TYPE_NORMAL = 1;
const TYPE_UNKNOWN = 2;
const TYPE_CONTROL = 3;
const TYPE_USER_DEFINED = 4;
const TYPE_BYTE = 6;

/** Token texts by what they are for. */
class Vocabulary {
  private readonly controlIds: ReadonlySet<number>;

  constructor(readonly data: TokenizerData) {
    this.controlIds = new Set([...data.endIds, ...(data.bosId === null ? [] : [data.bosId])]);
  }

  /** Begin and end tokens are control tokens whatever their type says. */
  getType(id: number): number {
    if (this.controlIds.has(id)) return TYPE_CONTROL;
    return this.data.tokenTypes?.[id] ?? TYPE_NORMAL;
  }

  getText(id: number): string {
    const text = this.data.tokens[id];
    assert(text !== undefined, `token ${id} is one of ${this.data.tokens.length}`);
    return text;
  }

  getIds(...types: readonly number[]): number[] {
    return this.data.tokens.flatMap((_, id) => (types.includes(this.getType(id)) ? [id] : []));
  }

  /** For tokenizer.json. Without a prototype: "__proto__" may be a token. The first of equal texts wins. */
  buildMap(ids: readonly number[]): Record<string, number> {
    const map: Record<string, number> = Object.create(null);
    for (const id of ids) map[this.getText(id)] ??= id;
    return map;
  }
}

/**
 * Builds the tokenizer.
 * @throws EngineError `UNSUPPORTED` for a kind or pre-tokenizer that webmoe does not know, `BAD_FILE`.
 */
export function createTokenizer(data: TokenizerData): Tokenizer {
  const vocabulary = new Vocabulary(data);
  const isByteLevel = data.model === 'gpt2';
  const bpe = buildBpe(isByteLevel ? buildByteLevelJson(vocabulary) : buildSentencePieceJson(vocabulary));

  const specials = new Map<string, number>();
  for (const id of vocabulary.getIds(TYPE_CONTROL, TYPE_UNKNOWN)) {
    const text = vocabulary.getText(id);
    if (text !== '' && !specials.has(text)) specials.set(text, id);
  }
  const specialTexts = [...specials.keys()].sort((a, b) => b.length - a.length);
  // Longest first, so that a token never hides a longer one; no token, no match.
  const specialPattern = specialTexts.length > 0 ? new RegExp(specialTexts.map(escapePattern).join('|'), 'g') : /(?!)/g;

  const splitSpecial = (text: string): (number | string)[] => {
    const pieces: (number | string)[] = [];
    let end = 0;
    for (const match of text.matchAll(specialPattern)) {
      if (match.index > end) pieces.push(text.slice(end, match.index));
      pieces.push(specials.get(match[0]) as number);
      end = match.index + match[0].length;
    }
    if (end < text.length) pieces.push(text.slice(end));
    return pieces;
  };
  const encodePlain = (text: string): number[] =>
    text === '' ? [] : bpe.encode(text, { add_special_tokens: false }).ids;

  return {
    vocabSize: data.tokens.length,
    bosId: data.bosId,
    endIds: data.endIds,
    specialTexts,
    splitSpecial,
    encode(text, { parseSpecial, addBos }) {
      const ids = parseSpecial
        ? splitSpecial(text).flatMap((piece) => (typeof piece === 'number' ? piece : encodePlain(piece)))
        : encodePlain(text);
      return addBos && data.bosId !== null ? [data.bosId, ...ids] : ids;
    },
    getTokenBytes(id) {
      const text = vocabulary.getText(id);
      const type = vocabulary.getType(id);
      if (type === TYPE_BYTE) return Uint8Array.of(getByte(text));
      if (type === TYPE_USER_DEFINED) return new TextEncoder().encode(text);
      if (type !== TYPE_NORMAL) return new Uint8Array(0);
      if (isByteLevel) return decodeByteLevel(text) ?? new TextEncoder().encode(text);
      return new TextEncoder().encode(text.replaceAll(SPACE_SYMBOL, ' '));
    },
    getMark: (id) => vocabulary.getText(id),
    isControl: (id) => ![TYPE_NORMAL, TYPE_USER_DEFINED, TYPE_BYTE].includes(vocabulary.getType(id)),
  };
}

/**
 * What both kinds share. Special tokens are left out, so that no text can become one; user-defined tokens are matched
 * in any text, as llama.cpp and transformers do.
 */
function buildJson(
  vocabulary: Vocabulary,
  parts: {
    readonly normalizer: JsonObject | null;
    readonly preTokenizer: JsonObject | null;
    readonly model: JsonObject;
  },
): object {
  return {
    added_tokens: vocabulary.getIds(TYPE_USER_DEFINED).flatMap((id) => {
      const content = vocabulary.getText(id);
      return content === '' ? [] : [{ id, content, special: false, normalized: false }];
    }),
    normalizer: parts.normalizer,
    pre_tokenizer: parts.preTokenizer,
    model: { type: 'BPE', ...parts.model },
    post_processor: null,
    decoder: null,
  };
}

function buildByteLevelJson(vocabulary: Vocabulary): object {
  const { merges } = vocabulary.data;
  const { normalizer, preTokenizer, ignoreMerges } = getByteLevelRules(vocabulary.data);
  if (!merges) {
    throw new EngineError('BAD_FILE', 'a "gpt2" tokenizer needs "tokenizer.ggml.merges"; convert the model again');
  }
  return buildJson(vocabulary, {
    normalizer,
    preTokenizer,
    model: {
      vocab: vocabulary.buildMap(vocabulary.getIds(TYPE_NORMAL)),
      merges: merges.map(splitMerge),
      ignore_merges: ignoreMerges,
    },
  });
}

function buildSentencePieceJson(vocabulary: Vocabulary): object {
  const { model, tokens, scores, merges, unknownId, addSpacePrefix, rules } = vocabulary.data;
  if (model !== 'llama') {
    throw new EngineError(
      'UNSUPPORTED',
      `tokenizer model "${model.slice(0, 80)}" is not supported; supported: gpt2 (byte-level BPE), llama (SentencePiece)`,
    );
  }
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: SPACE_SYMBOL };
  const normalizers = addSpacePrefix ? [{ type: 'Prepend', prepend: SPACE_SYMBOL }, replace] : [replace];
  return buildJson(vocabulary, {
    normalizer: rules ? rules.normalizer : { type: 'Sequence', normalizers },
    preTokenizer: rules?.preTokenizer ?? null,
    model: {
      vocab: vocabulary.buildMap(vocabulary.getIds(TYPE_NORMAL, TYPE_BYTE, TYPE_UNKNOWN)),
      merges: merges
        ? merges.map(splitMerge)
        : buildMerges(tokens, scores, (id) => vocabulary.getType(id) === TYPE_NORMAL),
      byte_fallback: true,
      fuse_unk: rules?.fuseUnknown ?? true,
      unk_token: unknownId === null ? null : vocabulary.getText(unknownId),
    },
  });
}

/** The library says what it cannot read by plain errors. */
function buildBpe(json: object): BpeTokenizer {
  try {
    return new BpeTokenizer(json, {});
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new EngineError('UNSUPPORTED', `the model's tokenizer cannot be read (${reason})`, { cause });
  }
}

/** "a b" at its first space behind the first character, which may itself be one. */
function splitMerge(merge: string): [string, string] {
  const at = merge.indexOf(' ', 1);
  if (at < 0) throw new EngineError('BAD_FILE', `tokenizer merge ${JSON.stringify(merge.slice(0, 80))} has no space`);
  return [merge.slice(0, at), merge.slice(at + 1)];
}

/** Value of a byte token such as "<0x0A>". */
function getByte(text: string): number {
  const match = /^<0x([0-9A-Fa-f]{2})>$/.exec(text);
  if (!match) throw new EngineError('BAD_FILE', `byte token ${JSON.stringify(text.slice(0, 80))} is not like <0x0A>`);
  return Number.parseInt(match[1] as string, 16);
}

function escapePattern(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}
