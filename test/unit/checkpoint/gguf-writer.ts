/**
 * Writes GGUF files in memory for tests: well-formed by default, with every count, length and offset overridable.
 * Owns no knowledge of models but `writeTinyOlmoe`; never used outside tests.
 */
import type { ByteSource } from '../../../src/checkpoint/byte-source';
import { EngineError } from '../../../src/errors';

export const ValueType = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;
export type ScalarType = Exclude<keyof typeof ValueType, 'array'>;

export type Entry =
  | readonly [key: string, type: ScalarType, value: string | number | bigint | boolean]
  | readonly [key: string, type: 'array', elementType: ScalarType, values: readonly (string | number | boolean)[]]
  | readonly [key: string, type: 'raw', bytes: Uint8Array];

export interface TensorSpec {
  readonly name: string;
  /** GGUF order: columns first. */
  readonly dimensions: readonly (number | bigint)[];
  readonly type: number;
  readonly data: Uint8Array;
  /** Instead of the next free aligned offset in the data. */
  readonly offset?: bigint;
}

export interface FileSpec {
  readonly entries: readonly Entry[];
  readonly tensors?: readonly TensorSpec[];
  readonly magic?: string;
  readonly version?: number;
  readonly metadataCount?: bigint;
  readonly tensorCount?: bigint;
  readonly alignment?: number;
}

/** Bytes with little-endian writers that grow as needed. */
export class ByteWriter {
  private readonly parts: Uint8Array[] = [];
  private length = 0;

  bytes(bytes: Uint8Array): this {
    this.parts.push(bytes);
    this.length += bytes.byteLength;
    return this;
  }

  number(type: Exclude<ScalarType, 'string'>, value: number | bigint | boolean): this {
    const view = new DataView(new ArrayBuffer(8));
    const n = Number(value);
    const sizes = { u8: 1, i8: 1, bool: 1, u16: 2, i16: 2, u32: 4, i32: 4, f32: 4, u64: 8, i64: 8, f64: 8 };
    if (type === 'f32') view.setFloat32(0, n, true);
    else if (type === 'f64') view.setFloat64(0, n, true);
    else view.setBigInt64(0, BigInt.asIntN(64, typeof value === 'bigint' ? value : BigInt(n)), true);
    return this.bytes(new Uint8Array(view.buffer, 0, sizes[type]));
  }

  string(text: string): this {
    const bytes = new TextEncoder().encode(text);
    return this.number('u64', bytes.byteLength).bytes(bytes);
  }

  scalar(type: ScalarType, value: string | number | bigint | boolean): this {
    return type === 'string' ? this.string(String(value)) : this.number(type, value as number | bigint | boolean);
  }

  pad(multiple: number): this {
    return this.bytes(new Uint8Array((multiple - (this.length % multiple)) % multiple));
  }

  finish(): Uint8Array<ArrayBuffer> {
    const out = new Uint8Array(this.length);
    let offset = 0;
    for (const part of this.parts) {
      out.set(part, offset);
      offset += part.byteLength;
    }
    return out;
  }
}

export function writeGguf(spec: FileSpec): Uint8Array<ArrayBuffer> {
  const { entries, tensors = [], alignment = 32 } = spec;
  const out = new ByteWriter()
    .bytes(new TextEncoder().encode(spec.magic ?? 'GGUF'))
    .number('u32', spec.version ?? 3)
    .number('u64', spec.tensorCount ?? BigInt(tensors.length))
    .number('u64', spec.metadataCount ?? BigInt(entries.length));
  writeEntries(out, entries);
  let offset = 0;
  for (const tensor of tensors) {
    out.string(tensor.name).number('u32', tensor.dimensions.length);
    for (const dimension of tensor.dimensions) out.number('u64', dimension);
    out.number('u32', tensor.type).number('u64', tensor.offset ?? BigInt(offset));
    offset += Math.ceil(tensor.data.byteLength / alignment) * alignment;
  }
  out.pad(alignment);
  for (const tensor of tensors) out.bytes(tensor.data).pad(alignment);
  return out.finish();
}

/** Metadata entries as they follow the counts. */
export function writeEntries(out: ByteWriter, entries: readonly Entry[]): void {
  for (const entry of entries) {
    out.string(entry[0]);
    if (entry[1] === 'raw') out.bytes(entry[2]);
    else if (entry[1] === 'array') {
      const [, , elementType, values] = entry;
      out.number('u32', ValueType.array).number('u32', ValueType[elementType]).number('u64', values.length);
      for (const value of values) out.scalar(elementType, value);
    } else out.number('u32', ValueType[entry[1]]).scalar(entry[1], entry[2]);
  }
}

/** A source over bytes in memory, as strict as the interface asks. */
export function memorySource(bytes: Uint8Array, name = 'test.gguf'): ByteSource {
  return {
    name,
    sizeBytes: bytes.byteLength,
    async read(offsetBytes, lengthBytes) {
      if (offsetBytes < 0 || lengthBytes < 0 || offsetBytes + lengthBytes > bytes.byteLength) {
        throw new EngineError('BAD_FILE', `range ${offsetBytes}+${lengthBytes} leaves ${name}`);
      }
      return bytes.slice(offsetBytes, offsetBytes + lengthBytes);
    },
  };
}

export interface TinyOlmoe {
  readonly hiddenSize: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly experts: number;
  readonly expertWidth: number;
  readonly layers: number;
  readonly vocabSize: number;
}

export const tinyOlmoe: TinyOlmoe = {
  hiddenSize: 32,
  heads: 4,
  kvHeads: 2,
  headDim: 8,
  experts: 3,
  expertWidth: 32,
  layers: 2,
  vocabSize: 20,
};

const F32 = 0;

/** An OLMoE file of F32 weights with a tokenizer; `edit` may change entries and tensors before it is written. */
export function writeTinyOlmoe(
  edit: (spec: { entries: Entry[]; tensors: TensorSpec[] }) => void = () => {},
  shape: TinyOlmoe = tinyOlmoe,
): Uint8Array<ArrayBuffer> {
  const { hiddenSize, heads, kvHeads, headDim, experts, expertWidth, layers, vocabSize } = shape;
  const qWidth = heads * headDim;
  const kvWidth = kvHeads * headDim;
  let seed = 1;
  const tensor = (name: string, dimensions: readonly number[]): TensorSpec => {
    const values = new Float32Array(dimensions.reduce((a, b) => a * b, 1));
    for (let i = 0; i < values.length; i++) {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      values[i] = seed / 2147483648 - 0.5;
    }
    return { name, dimensions, type: F32, data: new Uint8Array(values.buffer) };
  };
  const entries: Entry[] = [
    ['general.architecture', 'string', 'olmoe'],
    ['general.name', 'string', 'tiny'],
    ['olmoe.context_length', 'u32', 64],
    ['olmoe.embedding_length', 'u32', hiddenSize],
    ['olmoe.block_count', 'u32', layers],
    ['olmoe.feed_forward_length', 'u32', expertWidth],
    ['olmoe.attention.head_count', 'u32', heads],
    ['olmoe.attention.head_count_kv', 'u32', kvHeads],
    ['olmoe.attention.layer_norm_rms_epsilon', 'f32', 1e-5],
    ['olmoe.expert_count', 'u32', experts],
    ['olmoe.expert_used_count', 'u32', 2],
    ['tokenizer.ggml.model', 'string', 'gpt2'],
    ['tokenizer.ggml.pre', 'string', 'gpt-2'],
    ['tokenizer.ggml.tokens', 'array', 'string', Array.from({ length: vocabSize }, (_, i) => `t${i}`)],
    ['tokenizer.ggml.token_type', 'array', 'i32', Array.from({ length: vocabSize }, () => 1)],
    ['tokenizer.ggml.merges', 'array', 'string', ['t 1']],
    ['tokenizer.ggml.eos_token_id', 'u32', 1],
  ];
  const tensors = [tensor('token_embd.weight', [hiddenSize, vocabSize]), tensor('output_norm.weight', [hiddenSize])];
  for (let i = 0; i < layers; i++) {
    tensors.push(
      tensor(`blk.${i}.attn_norm.weight`, [hiddenSize]),
      tensor(`blk.${i}.attn_q.weight`, [hiddenSize, qWidth]),
      tensor(`blk.${i}.attn_k.weight`, [hiddenSize, kvWidth]),
      tensor(`blk.${i}.attn_v.weight`, [hiddenSize, kvWidth]),
      tensor(`blk.${i}.attn_output.weight`, [qWidth, hiddenSize]),
      tensor(`blk.${i}.attn_q_norm.weight`, [qWidth]),
      tensor(`blk.${i}.attn_k_norm.weight`, [kvWidth]),
      tensor(`blk.${i}.ffn_norm.weight`, [hiddenSize]),
      tensor(`blk.${i}.ffn_gate_inp.weight`, [hiddenSize, experts]),
      tensor(`blk.${i}.ffn_gate_exps.weight`, [hiddenSize, expertWidth, experts]),
      tensor(`blk.${i}.ffn_up_exps.weight`, [hiddenSize, expertWidth, experts]),
      tensor(`blk.${i}.ffn_down_exps.weight`, [expertWidth, hiddenSize, experts]),
    );
  }
  const spec = { entries, tensors };
  edit(spec);
  return writeGguf(spec);
}

/** Replaces the entry of the same key, or adds it. */
export function setEntry(entries: Entry[], entry: Entry): void {
  const at = entries.findIndex(([key]) => key === entry[0]);
  if (at < 0) entries.push(entry);
  else entries[at] = entry;
}

export function removeEntry(entries: Entry[], key: string): void {
  entries.splice(
    entries.findIndex(([candidate]) => candidate === key),
    1,
  );
}

/** Replaces fields of the tensor of a name. */
export function setTensor(tensors: TensorSpec[], name: string, change: Partial<TensorSpec>): void {
  const at = tensors.findIndex((tensor) => tensor.name === name);
  if (at < 0) throw new Error(`no tensor ${name}`);
  tensors[at] = { ...(tensors[at] as TensorSpec), ...change };
}
