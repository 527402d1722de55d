/**
 * What may follow in a text that obeys a grammar, as a mask over the vocabulary. Owns the grammar engine, XGrammar, which is
 * fetched when the first grammar is asked for (docs/decisions/0014); never samples.
 */
import type { TokenizerData } from '../checkpoint/manifest';
import { EngineError } from '../errors';
import { getRegexExpression, quoteLiteral } from './regex-grammar';
import { getSchemaGrammar, type JsonSchema } from './schema-grammar';
import type { Tokenizer } from './tokenizer';

/** What a generated text has to be, from its first character to its last. */
export type Grammar =
  /** JSON that validates against a schema; see docs/structured-output.md for the keywords. */
  | { readonly kind: 'json-schema'; readonly schema: JsonSchema }
  /** Any text, but from every `begin` to the next `end` JSON that validates against the schema. */
  | { readonly kind: 'tagged'; readonly begin: string; readonly schema: JsonSchema; readonly end: string }
  /** A regular expression, matched as a whole. */
  | { readonly kind: 'regex'; readonly pattern: string }
  /** XGrammar's EBNF, with the start rule `root`. */
  | { readonly kind: 'ebnf'; readonly source: string };

/** One text that is being generated. */
export interface GrammarSession {
  /**
   * Tokens that may come next: bit i of word w is token 32 w + i.
   * @throws EngineError `UNSUPPORTED` when no token of the vocabulary can go on.
   */
  readMask(): Promise<Uint32Array<ArrayBuffer>>;
  /** The mask behind tokens that were not chosen yet; null where they cannot follow, or nothing can follow them. */
  readMaskBehind(tokenIds: readonly number[]): Promise<Uint32Array<ArrayBuffer> | null>;
  /** Text that has to come next, in the tokens that the tokenizer makes of it; empty where there is a choice at once. */
  getForced(): number[];
  /** How many of these tokens, from the first on, may follow one after the other. */
  countAllowed(tokenIds: readonly number[]): number;
  /** Notes the token that was chosen. */
  accept(tokenId: number): void;
  /** Whether the text is at its end: an end token came, or nothing can follow in a vocabulary without one. */
  readonly isComplete: boolean;
  dispose(): void;
}

export interface GrammarEngine {
  /** @throws EngineError `UNSUPPORTED`, `BAD_ARGUMENT` for a grammar that cannot be enforced or read. */
  start(grammar: Grammar): Promise<GrammarSession>;
  dispose(): void;
}

type XGrammar = typeof import('@mlc-ai/web-xgrammar');

/** The smallest module there is. Where even that is refused, the engine's loader would wait for ever. */
const EMPTY_MODULE = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);

async function requireWebAssembly(): Promise<void> {
  try {
    await WebAssembly.compile(EMPTY_MODULE);
  } catch (cause) {
    const message =
      'grammars, JSON schemas and tools need WebAssembly, which this page does not allow: add ' +
      `'wasm-unsafe-eval' to script-src of the Content-Security-Policy that the page and its scripts are served with`;
    throw new EngineError('UNSUPPORTED', message, { cause });
  }
}

/** The package is a script that calls itself a module: what it exports is found where the bundler made of it puts it. */
async function loadXGrammar(): Promise<XGrammar> {
  const module = await import('@mlc-ai/web-xgrammar');
  const places = [module, (module as { default?: unknown }).default, (globalThis as { xgrammar?: unknown }).xgrammar];
  const found = places.find((place) => typeof place === 'object' && place !== null && 'GrammarCompiler' in place);
  if (!found) throw new EngineError('INTERNAL', '@mlc-ai/web-xgrammar was loaded and has no GrammarCompiler');
  return found as XGrammar;
}

/** @param vocabSize of the logits, which may be padded beyond the tokenizer's tokens. */
export function createGrammarEngine(data: TokenizerData, tokenizer: Tokenizer, vocabSize: number): GrammarEngine {
  let opened: ReturnType<typeof openXGrammar> | null = null;
  return {
    async start(grammar) {
      const source = getSource(grammar);
      opened ??= openXGrammar(data, tokenizer, vocabSize);
      // What could not be fetched now may be there the next time.
      opened.catch(() => {
        opened = null;
      });
      return startSession(await opened, source);
    },
    dispose() {
      opened?.then(
        ({ compiler, info }) => {
          compiler.dispose();
          info.dispose();
        },
        () => {},
      );
      opened = null;
    },
  };
}

async function openXGrammar(data: TokenizerData, tokenizer: Tokenizer, vocabSize: number) {
  await requireWebAssembly();
  const { TokenizerInfo, GrammarCompiler, GrammarMatcher } = await loadXGrammar().catch((cause: unknown) => {
    if (cause instanceof EngineError) throw cause;
    throw new EngineError('NETWORK', 'the grammar engine could not be fetched: try again', { cause });
  });
  const utf8 = new Utf8Guard(data.tokens.map((_, id) => tokenizer.getTokenBytes(id)));
  // A mark has no text of its own, and an empty one is never part of an answer.
  const texts = data.tokens.map((text, id) => (tokenizer.isControl(id) || utf8.isBroken(id) ? '' : text));
  const kind = data.model === 'gpt2' ? 'byte_level' : 'byte_fallback';
  const endIds = [...tokenizer.endIds];
  const info = await TokenizerInfo.createTokenizerInfo(texts, kind, false, vocabSize, endIds);
  const compiler = await GrammarCompiler.createGrammarCompiler(info);
  return { info, compiler, GrammarMatcher, tokenizer, endIds, utf8 };
}

async function startSession(
  { compiler, GrammarMatcher, tokenizer, endIds, utf8 }: Awaited<ReturnType<typeof openXGrammar>>,
  source: string,
): Promise<GrammarSession> {
  let compiled: Awaited<ReturnType<typeof compiler.compileGrammar>>;
  try {
    compiled = await compiler.compileGrammar(source);
  } catch (cause) {
    const message = `the grammar cannot be read: check it against XGrammar's EBNF; the console says where it fails`;
    throw new EngineError('BAD_ARGUMENT', message, { cause: new Error(String(cause)) });
  }
  const matcher = await GrammarMatcher.createGrammarMatcher(compiled, endIds, endIds.length === 0);
  let lastId: number | null = null;
  /** Null when no token may follow. */
  const readWords = async (afterId: number | null): Promise<Uint32Array<ArrayBuffer> | null> => {
    const words = Uint32Array.from(await matcher.getNextTokenBitmask(), (word) => word >>> 0);
    for (const id of utf8.getForbidden(afterId)) words[id >> 5] = (words[id >> 5] as number) & ~(1 << (id & 31));
    return words.every((word) => word === 0) ? null : words;
  };
  const acceptAllowed = (tokenIds: readonly number[]): number => {
    const refused = tokenIds.findIndex((id) => matcher.isTerminated() || !matcher.acceptToken(id));
    return refused < 0 ? tokenIds.length : refused;
  };
  return {
    async readMask() {
      const words = await readWords(lastId);
      if (!words)
        throw new EngineError('UNSUPPORTED', "no token of the model's vocabulary can go on as the grammar asks");
      return words;
    },
    async readMaskBehind(tokenIds) {
      const allowed = acceptAllowed(tokenIds);
      try {
        const isEnd = allowed < tokenIds.length || matcher.isTerminated();
        return isEnd ? null : await readWords(tokenIds.at(-1) ?? lastId);
      } finally {
        matcher.rollBack(allowed);
      }
    },
    getForced() {
      const text = matcher.isTerminated() ? '' : matcher.findJumpForwardString();
      return tokenizer.encode(text, { parseSpecial: false, addBos: false });
    },
    countAllowed(tokenIds) {
      const allowed = acceptAllowed(tokenIds);
      matcher.rollBack(allowed);
      return allowed;
    },
    accept(tokenId) {
      lastId = tokenId;
      if (!matcher.acceptToken(tokenId)) {
        throw new EngineError('INTERNAL', `token ${tokenId} was chosen, which the grammar forbids`);
      }
    },
    get isComplete() {
      return matcher.isTerminated();
    },
    dispose() {
      matcher.dispose();
      compiled.dispose();
    },
  };
}

/** Continuation bytes that make no character behind a leading byte: too long a form, half of a surrogate pair, too large. */
const FORBIDDEN_BEHIND: ReadonlyMap<number, readonly [first: number, last: number]> = new Map([
  [0xe0, [0x80, 0x9f]],
  [0xed, [0xa0, 0xbf]],
  [0xf0, [0x80, 0x8f]],
  [0xf4, [0x90, 0xbf]],
]);

/**
 * Keeps bytes out that are no UTF-8: XGrammar takes any continuation behind any leading byte for one character, where a
 * decoder finds several replacement characters.
 */
class Utf8Guard {
  /** Ids that begin with a byte that is forbidden behind the leading byte. */
  readonly #behind = new Map<number, number[]>();

  constructor(private readonly bytes: readonly Uint8Array[]) {
    for (const [lead, [first, last]] of FORBIDDEN_BEHIND) {
      const begins = (token: Uint8Array): boolean => (token[0] ?? 0) >= first && (token[0] ?? 0) <= last;
      this.#behind.set(
        lead,
        [...bytes.keys()].filter((id) => begins(bytes[id] as Uint8Array)),
      );
    }
  }

  /** Whether a token can be part of no text. */
  isBroken(id: number): boolean {
    return (this.bytes[id] as Uint8Array).some((byte, i, all) => {
      const [first, last] = FORBIDDEN_BEHIND.get(all[i - 1] ?? 0) ?? [256, 256];
      return byte === 0xc0 || byte === 0xc1 || byte > 0xf4 || (byte >= first && byte <= last);
    });
  }

  /** Tokens that cannot follow a token. */
  getForbidden(id: number | null): readonly number[] {
    return (id === null ? undefined : this.#behind.get(this.bytes[id]?.at(-1) ?? 0)) ?? [];
  }
}

function getSource(grammar: Grammar): string {
  switch (grammar.kind) {
    case 'json-schema':
      return getSchemaGrammar(grammar.schema);
    case 'tagged':
      return [
        getSchemaGrammar(grammar.schema, 'value'),
        `root ::= TagDispatch((${quoteLiteral(grammar.begin)}, tagged))`,
        `tagged ::= "\\n"? value "\\n"? ${quoteLiteral(grammar.end)}`,
      ].join('\n');
    case 'regex':
      return `root ::= ${getRegexExpression(grammar.pattern, 'plain')}`;
    case 'ebnf':
      return grammar.source;
    default:
      throw new EngineError(
        'BAD_ARGUMENT',
        `the grammar has kind "${(grammar as { kind?: unknown }).kind}"; kinds are json-schema, tagged, regex, ebnf`,
      );
  }
}
