/**
 * An OLMoE model of a GGUF file as an ONNX graph of the operators that onnxruntime has for such models: MatMulNBits,
 * GroupQueryAttention, QMoE. The weights are the file's own, bit for bit; only their places in blocks differ.
 * One sequence; logits of its last token. Knows no file: it is given the bytes.
 */
import { GGMLQuantizationType, type GGUFTensorInfo, gguf } from '@huggingface/gguf';
import { decodeF16 } from '../../../src/checkpoint/formats/f16.ts';
import { encodeOnnx, type OnnxConstant, type OnnxNode, type OnnxValue } from './onnx-file.ts';
import type { PeerShape } from './peer-protocol.ts';

const BLOCK = 32;
/** A block in the file: an f16 scale, then its weights. */
const Q4_0_BYTES = 18;
const Q8_0_BYTES = 34;

export interface OnnxModel {
  readonly file: Uint8Array;
  readonly shape: PeerShape;
}

interface Hyperparameters extends PeerShape {
  readonly hiddenSize: number;
  readonly heads: number;
  readonly experts: number;
  readonly expertsPerToken: number;
  readonly expertWidth: number;
  readonly epsilon: number;
  readonly ropeTheta: number;
  readonly contextLength: number;
}

/** @throws Error where the file is no OLMoE model of Q4_0 experts and Q8_0 matrices. */
export async function convertToOnnx(path: string, bytes: Uint8Array): Promise<OnnxModel> {
  const { metadata, tensorInfos, tensorDataOffset } = await gguf(path, { allowLocalFile: true });
  const values = metadata as unknown as Readonly<Record<string, number | string>>;
  if (values['general.architecture'] !== 'olmoe')
    throw new Error(`${path} is ${values['general.architecture']}, not olmoe`);
  const builder = new GraphBuilder(new GgufTensors(bytes, Number(tensorDataOffset), tensorInfos), values);
  return { file: builder.build(), shape: builder.config };
}

class GgufTensors {
  readonly #infos: ReadonlyMap<string, GGUFTensorInfo>;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly dataOffset: number,
    infos: readonly GGUFTensorInfo[],
  ) {
    this.#infos = new Map(infos.map((info) => [info.name, info]));
  }

  /** Outermost first. */
  getShape(name: string): number[] {
    return this.#get(name).shape.map(Number).reverse();
  }

  /** A vector or matrix of F32. */
  readF32(name: string): Uint8Array {
    const values = this.getShape(name).reduce((product, length) => product * length, 1);
    return this.#read(name, GGMLQuantizationType.F32, values * 4);
  }

  /** Blocks of a matrix, row by row. */
  readBlocks(name: string, type: GGMLQuantizationType.Q4_0 | GGMLQuantizationType.Q8_0): Uint8Array {
    const weights = this.getShape(name).reduce((product, length) => product * length, 1);
    const blockBytes = type === GGMLQuantizationType.Q4_0 ? Q4_0_BYTES : Q8_0_BYTES;
    return this.#read(name, type, (weights / BLOCK) * blockBytes);
  }

  #get(name: string): GGUFTensorInfo {
    const info = this.#infos.get(name);
    if (!info) throw new Error(`the file has no tensor "${name}"`);
    return info;
  }

  #read(name: string, type: GGMLQuantizationType, sizeBytes: number): Uint8Array {
    const { dtype, offset } = this.#get(name);
    if (dtype !== type) {
      throw new Error(`"${name}" is ${GGMLQuantizationType[dtype]}; ${GGMLQuantizationType[type]} is needed`);
    }
    const start = this.dataOffset + Number(offset);
    // A copy with a buffer of its own; a Buffer's `slice` is neither.
    return new Uint8Array(this.bytes.subarray(start, start + sizeBytes));
  }
}

class GraphBuilder {
  readonly config: Hyperparameters;
  readonly #nodes: OnnxNode[] = [];
  readonly #constants: OnnxConstant[] = [];

  constructor(
    private readonly tensors: GgufTensors,
    metadata: Readonly<Record<string, number | string>>,
  ) {
    const [vocabSize, hiddenSize] = tensors.getShape('token_embd.weight') as [number, number];
    const [experts, expertWidth] = tensors.getShape('blk.0.ffn_gate_exps.weight') as [number, number];
    const number = (key: string): number => Number(metadata[`olmoe.${key}`]);
    const heads = number('attention.head_count');
    this.config = {
      layers: number('block_count'),
      heads,
      kvHeads: number('attention.head_count_kv'),
      headDim: (tensors.getShape('blk.0.attn_q.weight')[0] as number) / heads,
      vocabSize,
      hiddenSize,
      experts,
      expertWidth,
      expertsPerToken: number('expert_used_count'),
      epsilon: number('attention.layer_norm_rms_epsilon'),
      ropeTheta: number('rope.freq_base'),
      contextLength: number('context_length'),
    };
  }

  build(): Uint8Array {
    const { layers, kvHeads, headDim, vocabSize, hiddenSize, contextLength } = this.config;
    this.#addRotation(contextLength, headDim);
    this.#addInts('last', [-1]);
    this.#addInts('end', [2 ** 31 - 1]);
    this.#addInts('axis', [1]);
    this.#addInts('rows', [-1, this.config.experts]);
    this.#addFloats('embedding', [vocabSize, hiddenSize], dequantizeQ8(this.#readQ8('token_embd.weight')));
    this.#add('Gather', ['embedding', 'input_ids'], ['embedded']);
    let residual = 'embedded';
    let x = this.#addNorm('norm.0', 'embedded', 'blk.0.attn_norm.weight');
    for (let layer = 0; layer < layers; layer++) {
      const mixed = this.#addAttention(layer, x);
      const [input, sum] = this.#addSkipNorm(`mid.${layer}`, mixed, residual, `blk.${layer}.ffn_norm.weight`);
      const experts = this.#addExperts(layer, input);
      const next = layer + 1 < layers ? `blk.${layer + 1}.attn_norm.weight` : 'output_norm.weight';
      [x, residual] = this.#addSkipNorm(`norm.${layer + 1}`, experts, sum, next);
    }
    this.#add('Slice', [x, 'last', 'end', 'axis'], ['last_hidden']);
    this.#addProduct('logits', 'last_hidden', 'output.weight');
    const getCache = (kind: string): OnnxValue[] =>
      Array.from({ length: layers }, (_, layer) =>
        ['key', 'value'].map((part) => ({
          name: `${kind}.${layer}.${part}`,
          type: 'float' as const,
          shape: [1, kvHeads, `${kind}_length`, headDim],
        })),
      ).flat();
    return encodeOnnx({
      nodes: this.#nodes,
      constants: this.#constants,
      inputs: [
        { name: 'input_ids', type: 'int64', shape: [1, 'tokens'] },
        { name: 'seqlens_k', type: 'int32', shape: [1] },
        { name: 'total_length', type: 'int32', shape: [1] },
        ...getCache('past'),
      ],
      outputs: [{ name: 'logits', type: 'float', shape: [1, 1, vocabSize] }, ...getCache('present')],
    });
  }

  #addAttention(layer: number, x: string): string {
    const { heads, kvHeads } = this.config;
    const name = (part: string): string => `attn.${layer}.${part}`;
    const tensor = (part: string): string => `blk.${layer}.attn_${part}.weight`;
    for (const part of ['q', 'k', 'v']) this.#addProduct(name(part), x, tensor(part));
    // OLMoE's norm goes over all heads together.
    const q = this.#addNorm(name('q_norm'), name('q'), tensor('q_norm'));
    const k = this.#addNorm(name('k_norm'), name('k'), tensor('k_norm'));
    const cache = (kind: string): string[] => [`${kind}.${layer}.key`, `${kind}.${layer}.value`];
    this.#add(
      'GroupQueryAttention',
      [q, k, name('v'), ...cache('past'), 'seqlens_k', 'total_length', 'cos', 'sin'],
      [name('mixed'), ...cache('present')],
      { num_heads: heads, kv_num_heads: kvHeads, do_rotary: 1, rotary_interleaved: 0 },
      'com.microsoft',
    );
    return this.#addProduct(name('out'), name('mixed'), tensor('output'));
  }

  /** QMoE takes the router's logits; gate and up are one matrix, their rows in turn. */
  #addExperts(layer: number, x: string): string {
    const { experts, expertWidth, hiddenSize, expertsPerToken } = this.config;
    const name = (part: string): string => `moe.${layer}.${part}`;
    const tensor = (part: string): string => `blk.${layer}.ffn_${part}.weight`;
    const router = new Float32Array(this.tensors.readF32(tensor('gate_inp')).buffer);
    this.#addFloats(name('router'), [hiddenSize, experts], transpose(router, experts, hiddenSize));
    this.#add('MatMul', [x, name('router')], [name('scores')]);
    this.#add('Reshape', [name('scores'), 'rows'], [name('score_rows')]);
    const readQ4 = (part: string) => unpackQ4(this.tensors.readBlocks(tensor(part), GGMLQuantizationType.Q4_0));
    const gateUp = interleaveRows(readQ4('gate_exps'), readQ4('up_exps'), experts * expertWidth, hiddenSize);
    this.#addExpertMatrix(name('gate_up'), [experts, 2 * expertWidth, hiddenSize], gateUp);
    this.#addExpertMatrix(name('down'), [experts, hiddenSize, expertWidth], readQ4('down_exps'));
    this.#add(
      'QMoE',
      [x, name('score_rows'), name('gate_up'), name('gate_up.scales'), '', name('down'), name('down.scales')],
      [name('out')],
      {
        k: expertsPerToken,
        activation_type: 'swiglu',
        swiglu_fusion: 1,
        activation_alpha: { float: 1 },
        activation_beta: { float: 0 },
        normalize_routing_weights: 0,
        expert_weight_bits: 4,
        block_size: BLOCK,
      },
      'com.microsoft',
    );
    return name('out');
  }

  #addExpertMatrix(name: string, [experts, rows, cols]: readonly [number, number, number], blocks: Blocks): void {
    this.#constants.push({ name, type: 'uint8', shape: [experts, rows, cols / 2], data: blocks.weights });
    this.#addFloats(`${name}.scales`, [experts, rows, cols / BLOCK], blocks.scales);
  }

  /** name = x W^T, W a Q8_0 matrix of the file. */
  #addProduct(name: string, x: string, tensor: string): string {
    const [rows, cols] = this.tensors.getShape(tensor) as [number, number];
    const { weights, scales } = this.#readQ8(tensor);
    this.#constants.push({ name: tensor, type: 'uint8', shape: [rows, cols / BLOCK, BLOCK], data: weights });
    this.#addFloats(`${tensor}.scales`, [rows * (cols / BLOCK)], scales);
    const attributes = { K: cols, N: rows, bits: 8, block_size: BLOCK };
    this.#add('MatMulNBits', [x, tensor, `${tensor}.scales`], [name], attributes, 'com.microsoft');
    return name;
  }

  #addNorm(name: string, x: string, tensor: string): string {
    this.#addVector(tensor);
    this.#add('SimplifiedLayerNormalization', [x, tensor], [name], this.#getEpsilon());
    return name;
  }

  /** norm(x + skip), and x + skip. */
  #addSkipNorm(name: string, x: string, skip: string, tensor: string): [normed: string, sum: string] {
    this.#addVector(tensor);
    const sum = `${name}.sum`;
    const outputs = [name, '', '', sum];
    this.#add('SkipSimplifiedLayerNormalization', [x, skip, tensor], outputs, this.#getEpsilon(), 'com.microsoft');
    return [name, sum];
  }

  #getEpsilon() {
    return { epsilon: { float: this.config.epsilon } };
  }

  #addVector(tensor: string): void {
    this.#constants.push({
      name: tensor,
      type: 'float',
      shape: this.tensors.getShape(tensor),
      data: this.tensors.readF32(tensor),
    });
  }

  /** [context, head / 2] each. */
  #addRotation(contextLength: number, headDim: number): void {
    const half = headDim / 2;
    const angles = Float64Array.from(
      { length: contextLength * half },
      (_, i) => Math.floor(i / half) * this.config.ropeTheta ** (-(i % half) / half),
    );
    this.#addFloats('cos', [contextLength, half], Float32Array.from(angles, Math.cos));
    this.#addFloats('sin', [contextLength, half], Float32Array.from(angles, Math.sin));
  }

  #addFloats(name: string, shape: readonly number[], values: Float32Array): void {
    this.#constants.push({ name, type: 'float', shape, data: new Uint8Array(values.buffer) });
  }

  #addInts(name: string, values: readonly number[]): void {
    const data = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    this.#constants.push({ name, type: 'int64', shape: [values.length], data });
  }

  #add(
    opType: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes: OnnxNode['attributes'] = {},
    domain?: 'com.microsoft',
  ): void {
    this.#nodes.push({ opType, inputs, outputs, attributes, ...(domain && { domain }) });
  }

  #readQ8(tensor: string): Blocks {
    return unpackQ8(this.tensors.readBlocks(tensor, GGMLQuantizationType.Q8_0));
  }
}

/** Blocks as onnxruntime has them: unsigned weights around the middle of their range, two to a byte where they have 4 bits. */
interface Blocks {
  readonly weights: Uint8Array;
  readonly scales: Float32Array;
}

/** In the file byte i of a block has weights i and i + 16; in ONNX 2 i and 2 i + 1, the first in the low bits. */
export function unpackQ4(file: Uint8Array): Blocks {
  const blocks = file.byteLength / Q4_0_BYTES;
  const weights = new Uint8Array(blocks * 16);
  for (let block = 0; block < blocks; block++) {
    const at = block * Q4_0_BYTES + 2;
    for (let i = 0; i < 16; i++) {
      const shift = i < 8 ? 0 : 4;
      const first = 2 * (i % 8);
      const low = ((file[at + first] as number) >> shift) & 15;
      const high = ((file[at + first + 1] as number) >> shift) & 15;
      weights[block * 16 + i] = low | (high << 4);
    }
  }
  return { weights, scales: readScales(file, Q4_0_BYTES) };
}

/** Signed bytes become unsigned, 128 in the middle. */
export function unpackQ8(file: Uint8Array): Blocks {
  const blocks = file.byteLength / Q8_0_BYTES;
  const weights = new Uint8Array(blocks * BLOCK);
  for (let block = 0; block < blocks; block++) {
    const at = block * Q8_0_BYTES + 2;
    for (let i = 0; i < BLOCK; i++) weights[block * BLOCK + i] = (file[at + i] as number) ^ 0x80;
  }
  return { weights, scales: readScales(file, Q8_0_BYTES) };
}

function dequantizeQ8({ weights, scales }: Blocks): Float32Array {
  return Float32Array.from(weights, (weight, i) => (weight - 128) * (scales[Math.floor(i / BLOCK)] as number));
}

function readScales(file: Uint8Array, blockBytes: number): Float32Array {
  return Float32Array.from({ length: file.byteLength / blockBytes }, (_, block) =>
    decodeF16((file[block * blockBytes] as number) | ((file[block * blockBytes + 1] as number) << 8)),
  );
}

/** Row 0 of the first, row 0 of the second, row 1 of the first, … */
function interleaveRows(first: Blocks, second: Blocks, rows: number, cols: number): Blocks {
  const join = <T extends Uint8Array | Float32Array>(a: T, b: T, out: T, stride: number): T => {
    for (let row = 0; row < rows; row++) {
      out.set(a.subarray(row * stride, (row + 1) * stride), 2 * row * stride);
      out.set(b.subarray(row * stride, (row + 1) * stride), (2 * row + 1) * stride);
    }
    return out;
  };
  return {
    weights: join(first.weights, second.weights, new Uint8Array(2 * first.weights.length), cols / 2),
    scales: join(first.scales, second.scales, new Float32Array(2 * first.scales.length), cols / BLOCK),
  };
}

function transpose(values: Float32Array, rows: number, cols: number): Float32Array {
  return Float32Array.from(values, (_, i) => values[(i % rows) * cols + Math.floor(i / rows)] as number);
}
