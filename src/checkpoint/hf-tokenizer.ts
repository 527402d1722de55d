/**
 * From a repository's tokenizer.json and its neighbours to TokenizerData.
 * Owns the files' fields and which of them wins; text/ builds the tokenizer. Never guesses a kind that it does not know.
 */
import { EngineError } from '../errors';
import type { GgufMetadata } from './gguf-metadata';
import type { JsonObject, TokenizerData } from './manifest';

export interface HfTokenizerFiles {
  readonly tokenizer: object;
  /** tokenizer_config.json. */
  readonly config: object;
  /** generation_config.json. */
  readonly generation: object;
  /** chat_template.jinja. */
  readonly chatTemplate: string | null;
  /** config.json. */
  readonly modelConfig: GgufMetadata;
}

/** GGUF token types (`tokenizer.ggml.token_type`). */
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;
const BYTE = 6;
const MAX_END_TOKENS = 64;

/**
 * @param vocabSize rows of the embedding; often more than there are tokens.
 * @throws EngineError `UNSUPPORTED` when the tokenizer is no BPE, `BAD_FILE` when the files contradict themselves.
 */
export function readHfTokenizer(sourceName: string, files: HfTokenizerFiles, vocabSize: number): TokenizerData {
  const fail = (message: string): never => {
    throw new EngineError('BAD_FILE', `${sourceName}: tokenizer.json: ${message}`);
  };
  const { tokenizer, config } = files;
  const model = getObject(tokenizer, 'model') ?? fail('has no "model"');
  if (Reflect.get(model, 'type') !== 'BPE') {
    const kind = JSON.stringify(Reflect.get(model, 'type') ?? null).slice(0, 80);
    throw new EngineError(
      'UNSUPPORTED',
      `${sourceName}: tokenizer.json: model type ${kind} is not supported; supported: BPE`,
    );
  }
  const vocab = getObject(model, 'vocab') ?? fail('has no "vocab"');
  const byteFallback = Reflect.get(model, 'byte_fallback') === true;
  const tokens: (string | undefined)[] = new Array(vocabSize).fill(undefined);
  const tokenTypes: number[] = new Array(vocabSize).fill(UNUSED);
  const place = (text: unknown, id: unknown, type: number): void => {
    if (typeof text !== 'string' || !Number.isSafeInteger(id) || (id as number) < 0 || (id as number) >= vocabSize) {
      fail(
        `token ${JSON.stringify(text)?.slice(0, 80)} has id ${JSON.stringify(id)}; 0 to ${vocabSize - 1} is possible`,
      );
    }
    tokens[id as number] = text as string;
    tokenTypes[id as number] = type;
  };
  for (const [text, id] of Object.entries(vocab) as [string, unknown][]) {
    place(text, id, byteFallback && /^<0x[0-9A-F]{2}>$/.test(text) ? BYTE : NORMAL);
  }
  for (const added of getArray(tokenizer, 'added_tokens')) {
    const { content, id, special } = (added ?? {}) as Record<string, unknown>;
    place(content, id, special === true ? CONTROL : USER_DEFINED);
  }
  const ids = new Map<string, number>();
  for (const [id, text] of tokens.entries()) if (text !== undefined) ids.set(text, id);
  const getId = (name: string, holder: object): number | null => {
    const value: unknown = Reflect.get(holder, name);
    const text = typeof value === 'string' ? value : getObject(holder, name) && Reflect.get(value as object, 'content');
    if (typeof text !== 'string') return null;
    return ids.get(text) ?? fail(`has no token ${JSON.stringify(text.slice(0, 80))}, which is the ${name}`);
  };
  const unknownId = getId('unk_token', model);
  if (unknownId !== null && tokenTypes[unknownId] !== CONTROL) tokenTypes[unknownId] = UNKNOWN;
  const bosId = getId('bos_token', config);
  const isByteLevel = findParts(getObject(tokenizer, 'pre_tokenizer'), 'pretokenizers').some(isOfType('ByteLevel'));
  if (!isByteLevel && !byteFallback) {
    throw new EngineError(
      'UNSUPPORTED',
      `${sourceName}: tokenizer.json: neither a "ByteLevel" pre-tokenizer nor "byte_fallback"; one of the two is needed`,
    );
  }
  return {
    model: isByteLevel ? 'gpt2' : 'llama',
    pre: null,
    // What no file names keeps its place, and adds nothing to a text.
    tokens: tokens.map((text, id) => text ?? `[unused ${id}]`),
    scores: null,
    tokenTypes,
    merges: getArray(model, 'merges').map((merge) => getMerge(merge, fail)),
    bosId,
    endIds: getEndIds(files, getId('eos_token', config), vocabSize, fail),
    unknownId,
    addBos: bosId !== null && addsBos(tokenizer, config, tokens[bosId] as string),
    addSpacePrefix: false,
    chatTemplate: files.chatTemplate ?? getChatTemplate(config),
    rules: {
      normalizer: getObject(tokenizer, 'normalizer') ?? null,
      preTokenizer: getObject(tokenizer, 'pre_tokenizer') ?? null,
      ignoreMerges: Reflect.get(model, 'ignore_merges') === true,
      fuseUnknown: Reflect.get(model, 'fuse_unk') === true,
    },
  };
}

function getObject(holder: object, key: string): JsonObject | undefined {
  const value: unknown = Reflect.get(holder, key);
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined;
}

function getArray(holder: object, key: string): readonly unknown[] {
  const value: unknown = Reflect.get(holder, key);
  return Array.isArray(value) ? value : [];
}

/** The parts of a "Sequence", or the one part that is none. */
function findParts(part: JsonObject | undefined, list: string): readonly unknown[] {
  if (!part) return [];
  return Reflect.get(part, 'type') === 'Sequence' ? getArray(part, list) : [part];
}

function isOfType(type: string): (part: unknown) => part is JsonObject {
  return (part): part is JsonObject => typeof part === 'object' && part !== null && Reflect.get(part, 'type') === type;
}

/** "a b", or the two as a list (tokenizers 0.20 on). */
function getMerge(merge: unknown, fail: (message: string) => never): string {
  if (typeof merge === 'string') return merge;
  const isPair = Array.isArray(merge) && merge.length === 2 && merge.every((part) => typeof part === 'string');
  if (!isPair || merge.some((part: string) => part.includes(' '))) {
    fail(`merge ${JSON.stringify(merge)?.slice(0, 80)} is no pair of tokens without a space`);
  }
  return (merge as string[]).join(' ');
}

/** All that any file calls an end of sequence. */
function getEndIds(
  { generation, modelConfig }: HfTokenizerFiles,
  eosId: number | null,
  vocabSize: number,
  fail: (message: string) => never,
): number[] {
  const key = 'eos_token_id';
  const declared: unknown = modelConfig.values.get(key) ?? [];
  const found = [eosId ?? [], Reflect.get(generation, key) ?? [], declared].flat() as unknown[];
  if (found.length > MAX_END_TOKENS) fail(`${found.length} end tokens; the limit is ${MAX_END_TOKENS}`);
  for (const id of found) {
    if (!Number.isSafeInteger(id) || (id as number) < 0 || (id as number) >= vocabSize) {
      fail(`"${key}" is ${JSON.stringify(id)?.slice(0, 80)}; 0 to ${vocabSize - 1} is possible`);
    }
  }
  return [...new Set(found as number[])];
}

/** tokenizer_config.json says so, or else the post-processor's template begins with the token. */
function addsBos(tokenizer: object, config: object, bos: string): boolean {
  const declared: unknown = Reflect.get(config, 'add_bos_token');
  if (typeof declared === 'boolean') return declared;
  const processors = findParts(getObject(tokenizer, 'post_processor'), 'processors');
  const template = processors.find(isOfType('TemplateProcessing'));
  const first = template && getArray(template, 'single')[0];
  const special = typeof first === 'object' && first !== null ? getObject(first, 'SpecialToken') : undefined;
  return special !== undefined && Reflect.get(special, 'id') === bos;
}

/** A template, or several by name, of which the default one counts. */
function getChatTemplate(config: object): string | null {
  const template: unknown = Reflect.get(config, 'chat_template');
  if (typeof template === 'string') return template;
  const named = Array.isArray(template) ? (template as unknown[]) : [];
  const found = named.find(
    (entry) => typeof entry === 'object' && entry !== null && Reflect.get(entry, 'name') === 'default',
  );
  const text: unknown = found && Reflect.get(found as object, 'template');
  return typeof text === 'string' ? text : null;
}
