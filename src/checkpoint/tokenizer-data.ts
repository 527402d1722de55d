/**
 * Collects a GGUF file's tokenizer keys (`tokenizer.*`), checked against the vocabulary size.
 * Owns the keys' names and defaults; text/ decides whether it can build that tokenizer.
 */
import { EngineError } from '../errors';
import type { Checkpoint } from './checkpoint';
import type { TokenizerData } from './manifest';

/** Pre-tokenizers of models whose early files do not say that a text begins with BOS. */
const ADD_BOS: ReadonlySet<string> = new Set(['llama-bpe', 'llama3', 'lfm2', 'tekken']);

/**
 * @param vocabSize Rows of the embedding.
 * @throws EngineError `UNSUPPORTED` when the file has no tokenizer, `BAD_FILE` when it contradicts itself.
 */
export function readTokenizerData(
  { metadata, sourceName }: Pick<Checkpoint, 'metadata' | 'sourceName'>,
  vocabSize: number,
): TokenizerData {
  if (!metadata.has('tokenizer.ggml.model') || !metadata.has('tokenizer.ggml.tokens')) {
    throw new EngineError(
      'UNSUPPORTED',
      `${sourceName}: missing tokenizer: no "tokenizer.ggml.model" and "tokenizer.ggml.tokens"; ` +
        'use a GGUF file that was converted with its tokenizer',
    );
  }
  const fail = (message: string): never => {
    throw new EngineError('BAD_FILE', `${sourceName}: ${message}`);
  };
  const checkLength = <T>(key: string, values: readonly T[]): readonly T[] => {
    if (values.length !== vocabSize) fail(`"${key}" has ${values.length} entries; the embedding has ${vocabSize} rows`);
    return values;
  };
  const getTokenId = (name: string): number | null => {
    const key = `tokenizer.ggml.${name}_token_id`;
    return metadata.has(key) ? metadata.getInteger(key, { min: 0, max: vocabSize - 1 }) : null;
  };
  const getOptional = (key: string, range = {}): readonly number[] | null =>
    metadata.has(key) ? checkLength(key, metadata.getNumbers(key, range)) : null;

  const model = metadata.getString('tokenizer.ggml.model');
  const pre = metadata.has('tokenizer.ggml.pre') ? metadata.getString('tokenizer.ggml.pre') : null;
  const tokensKey = 'tokenizer.ggml.tokens';
  const endIds = [getTokenId('eos'), getTokenId('eot'), getTokenId('eom')].filter((id) => id !== null);
  return {
    model,
    pre,
    tokens: checkLength(tokensKey, metadata.getStrings(tokensKey)),
    scores: getOptional('tokenizer.ggml.scores'),
    tokenTypes: getOptional('tokenizer.ggml.token_type', { min: 0, max: 6 }),
    merges: metadata.has('tokenizer.ggml.merges') ? metadata.getStrings('tokenizer.ggml.merges') : null,
    bosId: getTokenId('bos'),
    endIds: [...new Set(endIds)],
    unknownId: getTokenId('unknown'),
    // Defaults of llama.cpp (llama-vocab.cpp): SentencePiece models add both, byte-level ones neither, but for a few kinds.
    addBos: metadata.getBool('tokenizer.ggml.add_bos_token', model === 'llama' || ADD_BOS.has(pre ?? '')),
    addSpacePrefix: metadata.getBool('tokenizer.ggml.add_space_prefix', model === 'llama'),
    chatTemplate: metadata.has('tokenizer.chat_template') ? metadata.getString('tokenizer.chat_template') : null,
  };
}
