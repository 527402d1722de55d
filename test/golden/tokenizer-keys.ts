/** Vocabularies of ./real-tokenizers.json.gz as a converter writes them into a GGUF file. Reads no file itself. */
import { GgufMetadata } from '../../src/checkpoint/gguf-metadata';
import { readHfTokenizer } from '../../src/checkpoint/hf-tokenizer';
import type { TokenizerData } from '../../src/checkpoint/manifest';

export interface GoldenCheckpoint {
  /** Its pre-tokenizer's name in GGUF files; null: SentencePiece. */
  readonly pre: string | null;
  readonly vocabSize: number;
  readonly tokenizer: object;
  readonly config: object;
}

/** As webmoe reads its tokenizer.json. */
export function readCheckpointTokenizer({ tokenizer, config, vocabSize }: GoldenCheckpoint): TokenizerData {
  const modelConfig = new GgufMetadata('config.json', new Map());
  const files = { tokenizer, config, generation: {}, chatTemplate: null, modelConfig };
  return readHfTokenizer('test', files, vocabSize);
}

/** What `tokenizer.ggml.token_type` calls a user-defined token. */
const USER_DEFINED = 4;

/**
 * The rules become a name; SentencePiece's merges become scores, the order of its tokens, and its user-defined tokens are
 * written with spaces.
 */
export function toGgufKeys(checkpoint: GoldenCheckpoint): TokenizerData {
  const { rules: _, ...data } = readCheckpointTokenizer(checkpoint);
  if (checkpoint.pre !== null) return { ...data, pre: checkpoint.pre };
  const tokens = data.tokens.map((token, id) =>
    data.tokenTypes?.[id] === USER_DEFINED ? token.replaceAll('\u2581', ' ') : token,
  );
  return { ...data, tokens, pre: 'default', merges: null, scores: tokens.map((_token, id) => -id) };
}
