/**
 * GGUF files of weights that mean nothing, made in memory: what a model of a shape costs to run. Never stored on disk.
 * Well-formed, so that they are installed, loaded and run as any other file.
 */
import {
  GGMLQuantizationType,
  type GGUFTypedMetadata,
  GGUFValueType,
  type MetadataValue,
  serializeGgufMetadata,
} from '@huggingface/gguf';
import type { RandomShape } from './random-shapes';

/** Tokens that a KV cache is made for. */
const CONTEXT_LENGTH = 1024;
const ALIGNMENT_BYTES = 32;

interface TensorSpec {
  readonly name: string;
  /** Outermost first. */
  readonly shape: readonly number[];
  readonly type: keyof typeof blocks;
}

/** Bytes of a block, and a pattern of blocks of random values around zero with a root mean square of 0.02. */
const blocks = {
  [GGMLQuantizationType.F32]: { weights: 1, bytes: 4, fill: fillF32 },
  [GGMLQuantizationType.Q8_0]: { weights: 32, bytes: 34, fill: getBlockFill(34, 0x0c00) },
  [GGMLQuantizationType.Q4_0]: { weights: 32, bytes: 18, fill: getBlockFill(18, 0x1d00) },
} as const;

/** Blocks that a tensor's pattern repeats after: a prime, so that no two rows are alike. */
const PATTERN_BLOCKS = 65_521;

/** @param shape its vocabulary has 256 tokens at least. */
export function writeRandomModel(shape: RandomShape): Blob {
  const tensors = listTensors(shape);
  const sizes = tensors.map(getTensorBytes);
  let offset = 0;
  const infos = tensors.map((tensor, i) => {
    const info = encodeTensorInfo(tensor, offset);
    offset += sizes[i] as number;
    return info;
  });
  const header = [serializeGgufMetadata(getMetadata(shape, tensors.length), { alignment: 1 }), ...infos];
  const headerBytes = header.reduce((sum, bytes) => sum + bytes.byteLength, 0);
  const padding = new Uint8Array((ALIGNMENT_BYTES - (headerBytes % ALIGNMENT_BYTES)) % ALIGNMENT_BYTES);
  const data = tensors.map((tensor, i) => createData(tensor, sizes[i] as number, i + 1));
  return new Blob([...header, padding, ...data] as BlobPart[]);
}

function listTensors({
  architecture,
  layers,
  hiddenSize,
  heads,
  kvHeads,
  headDim,
  experts,
  expertWidth,
  vocabSize,
}: RandomShape): TensorSpec[] {
  const { F32, Q8_0, Q4_0 } = GGMLQuantizationType;
  const [qWidth, kvWidth] = [heads * headDim, kvHeads * headDim];
  // OLMoE's norm of q and k goes over all heads together.
  const [qNorm, kNorm] = architecture === 'olmoe' ? [qWidth, kvWidth] : [headDim, headDim];
  const outside: TensorSpec[] = [
    { name: 'token_embd.weight', shape: [vocabSize, hiddenSize], type: Q8_0 },
    { name: 'output_norm.weight', shape: [hiddenSize], type: F32 },
    { name: 'output.weight', shape: [vocabSize, hiddenSize], type: Q8_0 },
  ];
  const getLayer = (layer: number): TensorSpec[] =>
    [
      { name: 'attn_norm', shape: [hiddenSize], type: F32 },
      { name: 'attn_q', shape: [qWidth, hiddenSize], type: Q8_0 },
      { name: 'attn_k', shape: [kvWidth, hiddenSize], type: Q8_0 },
      { name: 'attn_v', shape: [kvWidth, hiddenSize], type: Q8_0 },
      { name: 'attn_output', shape: [hiddenSize, qWidth], type: Q8_0 },
      { name: 'attn_q_norm', shape: [qNorm], type: F32 },
      { name: 'attn_k_norm', shape: [kNorm], type: F32 },
      { name: 'ffn_norm', shape: [hiddenSize], type: F32 },
      { name: 'ffn_gate_inp', shape: [experts, hiddenSize], type: F32 },
      { name: 'ffn_gate_exps', shape: [experts, expertWidth, hiddenSize], type: Q4_0 },
      { name: 'ffn_up_exps', shape: [experts, expertWidth, hiddenSize], type: Q4_0 },
      { name: 'ffn_down_exps', shape: [experts, hiddenSize, expertWidth], type: Q4_0 },
    ].map((tensor) => ({ ...tensor, name: `blk.${layer}.${tensor.name}.weight` }) as TensorSpec);
  return [...outside, ...Array.from({ length: layers }, (_, layer) => getLayer(layer)).flat()];
}

function getMetadata(shape: RandomShape, tensors: number): GGUFTypedMetadata {
  const { UINT32, UINT64, FLOAT32, STRING, ARRAY, INT32 } = GGUFValueType;
  const own = (key: string) => `${shape.architecture}.${key}`;
  const integers: Readonly<Record<string, number>> = {
    context_length: CONTEXT_LENGTH,
    embedding_length: shape.hiddenSize,
    block_count: shape.layers,
    feed_forward_length: shape.expertWidth,
    'attention.head_count': shape.heads,
    'attention.head_count_kv': shape.kvHeads,
    'attention.key_length': shape.headDim,
    'attention.value_length': shape.headDim,
    expert_count: shape.experts,
    expert_used_count: shape.expertsPerToken,
    expert_feed_forward_length: shape.expertWidth,
  };
  // Every byte has a token, so that any text has tokens.
  const tokens = [...spellBytes(), ...Array.from({ length: shape.vocabSize - 256 }, (_, id) => `token${id}`)];
  const text = (value: string) => ({ value, type: STRING });
  const list = (value: MetadataValue[], subType: GGUFValueType) => ({ value, type: ARRAY, subType });
  return {
    version: { value: 3, type: UINT32 },
    tensor_count: { value: BigInt(tensors), type: UINT64 },
    kv_count: { value: 0n, type: UINT64 },
    'general.architecture': text(shape.architecture),
    'general.name': text(`${shape.name} (random weights, ${shape.layers} layers)`),
    ...Object.fromEntries(Object.entries(integers).map(([key, value]) => [own(key), { value, type: UINT32 }])),
    [own('attention.layer_norm_rms_epsilon')]: { value: 1e-5, type: FLOAT32 },
    [own('rope.freq_base')]: { value: shape.ropeTheta, type: FLOAT32 },
    'tokenizer.ggml.model': text('gpt2'),
    'tokenizer.ggml.pre': text('gpt-2'),
    'tokenizer.ggml.tokens': list(tokens, STRING),
    'tokenizer.ggml.token_type': list(
      tokens.map(() => 1),
      INT32,
    ),
    'tokenizer.ggml.merges': list([], STRING),
    'tokenizer.ggml.eos_token_id': { value: 0, type: UINT32 },
    'tokenizer.chat_template': text("{% for message in messages %}{{ message['content'] }}{% endfor %}"),
  } as unknown as GGUFTypedMetadata;
}

/** Byte-level BPE's character of each byte: its own where that can be printed, else one from U+0100 on. */
function spellBytes(): string[] {
  let next = 0x100;
  const isPrinted = (byte: number): boolean =>
    (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad && byte <= 0xff);
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrinted(byte) ? byte : next++));
}

/** A tensor's entry behind the metadata: name, columns first, type, place in the data. */
function encodeTensorInfo({ name, shape, type }: TensorSpec, offset: number): Uint8Array {
  const text = new TextEncoder().encode(name);
  const view = new DataView(new ArrayBuffer(8 + text.byteLength + 4 + 8 * shape.length + 4 + 8));
  view.setBigUint64(0, BigInt(text.byteLength), true);
  new Uint8Array(view.buffer).set(text, 8);
  let at = 8 + text.byteLength;
  view.setUint32(at, shape.length, true);
  at += 4;
  for (const length of [...shape].reverse()) {
    view.setBigUint64(at, BigInt(length), true);
    at += 8;
  }
  view.setUint32(at, type, true);
  view.setBigUint64(at + 4, BigInt(offset), true);
  return new Uint8Array(view.buffer);
}

function getTensorBytes({ shape, type }: TensorSpec): number {
  const { weights, bytes } = blocks[type];
  const size = (shape.reduce((product, length) => product * length, 1) / weights) * bytes;
  return Math.ceil(size / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

function createData({ type, shape }: TensorSpec, sizeBytes: number, seed: number): Uint8Array {
  const data = new Uint8Array(sizeBytes);
  const { bytes, fill } = blocks[type];
  const patternBytes = Math.min(sizeBytes - (sizeBytes % bytes), PATTERN_BLOCKS * bytes);
  // The weights of norms are ones, as they are about in trained models.
  if (shape.length === 1) new Float32Array(data.buffer).fill(1);
  else fill(data.subarray(0, patternBytes), seed);
  for (let at = patternBytes; at < sizeBytes && shape.length > 1; at += patternBytes) {
    data.copyWithin(at, 0, Math.min(patternBytes, sizeBytes - at));
  }
  return data;
}

function* drawWords(seed: number): Generator<number, never> {
  for (let x = seed; ; ) {
    x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
    yield x;
  }
}

function fillF32(data: Uint8Array, seed: number): void {
  const values = new Float32Array(data.buffer, data.byteOffset, data.byteLength / 4);
  const words = drawWords(seed);
  for (let i = 0; i < values.length; i++) values[i] = (words.next().value / 2 ** 32 - 0.5) * 0.07;
}

/** Blocks of a scale, the f16 of these bits, and random bytes. */
function getBlockFill(blockBytes: number, scaleBits: number): (data: Uint8Array, seed: number) => void {
  return (data, seed) => {
    const words = drawWords(seed);
    for (let i = 0; i < data.byteLength; i++) data[i] = words.next().value >>> 24;
    for (let at = 0; at + 1 < data.byteLength; at += blockBytes) {
      data[at] = scaleBits & 0xff;
      data[at + 1] = scaleBits >> 8;
    }
  };
}
