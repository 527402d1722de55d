/**
 * A model whose answers are written beforehand: token i is always followed by token i + 1, the last one by the first.
 * The embedding is one-hot, attention and experts add zero, and the head shifts by one; so greedy decoding recites.
 */
import { decodeByteLevel } from '../../src/text/byte-level';
import { setEntry, setTensor, tinyOlmoe, writeTinyOlmoe } from '../unit/checkpoint/gguf-writer';

const NORMAL = 1;
const CONTROL = 3;

export interface ScriptedModel {
  readonly gguf: Uint8Array<ArrayBuffer>;
  readonly vocabSize: number;
  readonly endId: number;
}

/**
 * @param pieces bytes of each token; the end token is added behind them.
 * @param marks ids of the pieces that are special tokens.
 */
export function writeScriptedModel(
  pieces: readonly Uint8Array[],
  contextLength = 128,
  marks: readonly number[] = [],
): ScriptedModel {
  const vocabSize = pieces.length + 1;
  const hiddenSize = Math.ceil(vocabSize / 32) * 32;
  const toOneHot = (getColumn: (row: number) => number): Uint8Array => {
    const values = new Float32Array(vocabSize * hiddenSize);
    for (let row = 0; row < vocabSize; row++) values[row * hiddenSize + getColumn(row)] = 1;
    return new Uint8Array(values.buffer);
  };
  const gguf = writeTinyOlmoe(
    ({ entries, tensors }) => {
      setEntry(entries, ['olmoe.context_length', 'u32', contextLength]);
      setEntry(entries, ['tokenizer.ggml.tokens', 'array', 'string', [...pieces.map(spell), '<|end|>']]);
      setEntry(entries, [
        'tokenizer.ggml.token_type',
        'array',
        'i32',
        Array.from({ length: vocabSize }, (_, id) => (id < pieces.length && !marks.includes(id) ? NORMAL : CONTROL)),
      ]);
      setEntry(entries, ['tokenizer.ggml.merges', 'array', 'string', []]);
      setEntry(entries, ['tokenizer.ggml.eos_token_id', 'u32', pieces.length]);
      setTensor(tensors, 'token_embd.weight', { data: toOneHot((row) => row) });
      tensors.push({
        name: 'output.weight',
        dimensions: [hiddenSize, vocabSize],
        type: 0,
        data: toOneHot((row) => (row + vocabSize - 1) % vocabSize),
      });
      setTensor(tensors, 'output_norm.weight', { data: new Uint8Array(new Float32Array(hiddenSize).fill(1).buffer) });
      for (const { name, data } of [...tensors]) {
        if (/attn_output|ffn_down_exps/.test(name)) setTensor(tensors, name, { data: new Uint8Array(data.byteLength) });
      }
    },
    { ...tinyOlmoe, hiddenSize, vocabSize },
  );
  return { gguf, vocabSize, endId: pieces.length };
}

/** Cuts a text's UTF-8 into pieces of the given sizes, over and over: characters may be cut anywhere. */
export function cutBytes(text: string, sizes: readonly number[]): Uint8Array[] {
  const bytes = new TextEncoder().encode(text);
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const size = sizes[pieces.length % sizes.length] as number;
    pieces.push(bytes.subarray(at, at + size));
    at += size;
  }
  return pieces;
}

/** Characters of byte-level BPE by byte. */
const spelling = new Map(
  Array.from({ length: 0x144 }, (_, code) => String.fromCharCode(code)).flatMap((character) => {
    const byte = decodeByteLevel(character)?.[0];
    return byte === undefined ? [] : [[byte, character] as const];
  }),
);

function spell(bytes: Uint8Array): string {
  return [...bytes].map((byte) => spelling.get(byte)).join('');
}
