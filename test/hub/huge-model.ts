/**
 * A GGUF file of 30 GB that exists only as a function: the header of Qwen3-30B-A3B, weights that follow from their offset.
 * Owns its tensor list and sizes; its tokens are made up, and its weights mean nothing.
 */
import { qwen3Moe } from '../../tools/perf/random-shapes.ts';
import { ByteWriter, type Entry, writeEntries } from '../unit/checkpoint/gguf-writer';
import { getByteAt } from '../unit/store/fault-server';
import type { HubFile } from './hub';

const CONTEXT_LENGTH = 32_768;

const F32 = 0;
const Q8_0 = 8;
const ALIGNMENT_BYTES = 32;
/** The data are functions of (offset modulo this): a block that is made once. A prime, so that no tensor repeats. */
const PERIOD_BYTES = 1_048_573;

interface HugeTensor {
  readonly name: string;
  /** Columns first, as in GGUF. */
  readonly dimensions: readonly number[];
  readonly type: typeof F32 | typeof Q8_0;
}

export interface HugeModel extends HubFile {
  readonly headerBytes: number;
  /** From the start of the file. */
  readonly tensors: ReadonlyMap<string, { readonly offsetBytes: number; readonly sizeBytes: number }>;
}

/** @param architecture `general.architecture`, which also prefixes its keys. */
export function createHugeModel(architecture = 'qwen3moe'): HugeModel {
  const specs = listTensors();
  const offsets: number[] = [];
  let dataBytes = 0;
  for (const spec of specs) {
    offsets.push(dataBytes);
    dataBytes += roundUp(getSizeBytes(spec), ALIGNMENT_BYTES);
  }
  const header = writeHeader(architecture, specs, offsets);
  const headerBytes = header.byteLength;
  const block = Uint8Array.from({ length: PERIOD_BYTES }, (_, i) => getByteAt(i));
  return {
    headerBytes,
    sizeBytes: headerBytes + dataBytes,
    etag: '"huge"',
    tensors: new Map(
      specs.map((spec, i) => [
        spec.name,
        { offsetBytes: headerBytes + (offsets[i] as number), sizeBytes: getSizeBytes(spec) },
      ]),
    ),
    read(offsetBytes, lengthBytes) {
      const out = new Uint8Array(lengthBytes);
      for (let done = 0; done < lengthBytes; ) {
        const at = offsetBytes + done;
        const piece = at < headerBytes ? header.subarray(at) : block.subarray((at - headerBytes) % PERIOD_BYTES);
        const part = piece.subarray(0, lengthBytes - done);
        out.set(part, done);
        done += part.byteLength;
      }
      return out;
    },
  };
}

function listTensors(): HugeTensor[] {
  const { layers, hiddenSize, heads, kvHeads, headDim, experts, expertWidth, vocabSize } = qwen3Moe;
  const matrix = (name: string, ...dimensions: number[]): HugeTensor => ({ name, dimensions, type: Q8_0 });
  const plain = (name: string, ...dimensions: number[]): HugeTensor => ({ name, dimensions, type: F32 });
  const ofLayer = (i: number): HugeTensor[] => [
    plain(`blk.${i}.attn_norm.weight`, hiddenSize),
    matrix(`blk.${i}.attn_q.weight`, hiddenSize, heads * headDim),
    matrix(`blk.${i}.attn_k.weight`, hiddenSize, kvHeads * headDim),
    matrix(`blk.${i}.attn_v.weight`, hiddenSize, kvHeads * headDim),
    matrix(`blk.${i}.attn_output.weight`, heads * headDim, hiddenSize),
    plain(`blk.${i}.attn_q_norm.weight`, headDim),
    plain(`blk.${i}.attn_k_norm.weight`, headDim),
    plain(`blk.${i}.ffn_norm.weight`, hiddenSize),
    plain(`blk.${i}.ffn_gate_inp.weight`, hiddenSize, experts),
    matrix(`blk.${i}.ffn_gate_exps.weight`, hiddenSize, expertWidth, experts),
    matrix(`blk.${i}.ffn_up_exps.weight`, hiddenSize, expertWidth, experts),
    matrix(`blk.${i}.ffn_down_exps.weight`, expertWidth, hiddenSize, experts),
  ];
  return [
    matrix('token_embd.weight', hiddenSize, vocabSize),
    ...Array.from({ length: layers }, (_, layer) => ofLayer(layer)).flat(),
    plain('output_norm.weight', hiddenSize),
    matrix('output.weight', hiddenSize, vocabSize),
  ];
}

function getSizeBytes({ dimensions, type }: HugeTensor): number {
  const weights = dimensions.reduce((product, dimension) => product * dimension, 1);
  return type === F32 ? weights * 4 : (weights / 32) * 34;
}

function writeHeader(architecture: string, specs: readonly HugeTensor[], offsets: readonly number[]): Uint8Array {
  const { layers, hiddenSize, heads, kvHeads, headDim, experts, expertWidth, vocabSize } = qwen3Moe;
  const own = (key: string) => `${architecture}.${key}`;
  const entries: Entry[] = [
    ['general.architecture', 'string', architecture],
    ['general.name', 'string', 'Qwen3 30B A3B'],
    [own('context_length'), 'u32', CONTEXT_LENGTH],
    [own('embedding_length'), 'u32', hiddenSize],
    [own('block_count'), 'u32', layers],
    [own('feed_forward_length'), 'u32', 6144],
    [own('expert_feed_forward_length'), 'u32', expertWidth],
    [own('attention.head_count'), 'u32', heads],
    [own('attention.head_count_kv'), 'u32', kvHeads],
    [own('attention.key_length'), 'u32', headDim],
    [own('attention.value_length'), 'u32', headDim],
    [own('attention.layer_norm_rms_epsilon'), 'f32', 1e-6],
    [own('rope.freq_base'), 'f32', qwen3Moe.ropeTheta],
    [own('expert_count'), 'u32', experts],
    [own('expert_used_count'), 'u32', qwen3Moe.expertsPerToken],
    ['tokenizer.ggml.model', 'string', 'gpt2'],
    ['tokenizer.ggml.pre', 'string', 'qwen2'],
    ['tokenizer.ggml.tokens', 'array', 'string', Array.from({ length: vocabSize }, (_, id) => `token ${id}`)],
    ['tokenizer.ggml.token_type', 'array', 'i32', Array.from({ length: vocabSize }, () => 1)],
    ['tokenizer.ggml.merges', 'array', 'string', ['t o']],
    ['tokenizer.ggml.eos_token_id', 'u32', vocabSize - 1],
  ];
  const out = new ByteWriter()
    .bytes(new TextEncoder().encode('GGUF'))
    .number('u32', 3)
    .number('u64', specs.length)
    .number('u64', entries.length);
  writeEntries(out, entries);
  for (const [i, { name, dimensions, type }] of specs.entries()) {
    out.string(name).number('u32', dimensions.length);
    for (const dimension of dimensions) out.number('u64', dimension);
    out.number('u32', type).number('u64', offsets[i] as number);
  }
  return out.pad(ALIGNMENT_BYTES).finish();
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
