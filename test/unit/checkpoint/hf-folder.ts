/**
 * The same model as a folder of safetensors files: written in memory from a GGUF file, tensor by tensor, under the names
 * that transformers uses. For OLMoE with a byte-level tokenizer. Never quantises.
 */
import type { ByteSource } from '../../../src/checkpoint/byte-source';
import type { CheckpointFiles } from '../../../src/checkpoint/checkpoint-files';
import { readGgufFile } from '../../../src/checkpoint/gguf';
import { memorySource } from './gguf-writer';

export interface HfTensorSpec {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** Files by path. */
export type Folder = Map<string, Uint8Array>;

export function writeSafetensors(
  tensors: readonly HfTensorSpec[],
  edit: (header: Record<string, unknown>) => void = () => {},
): Uint8Array {
  let at = 0;
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  for (const { name, dtype, shape, data } of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, at + data.byteLength] };
    at += data.byteLength;
  }
  edit(header);
  const json = new TextEncoder().encode(JSON.stringify(header));
  const out = new Uint8Array(8 + json.byteLength + at);
  new DataView(out.buffer).setBigUint64(0, BigInt(json.byteLength), true);
  out.set(json, 8);
  at = 8 + json.byteLength;
  for (const { data } of tensors) {
    out.set(data, at);
    at += data.byteLength;
  }
  return out;
}

export const toJson = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

const NAMES: Readonly<Record<string, string>> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate_inp: 'mlp.gate',
};

/** The folder's files; its tensors are dealt to `shards` files in turn when that is more than 1. */
export async function writeHfFolder(gguf: Uint8Array, shards = 1): Promise<Folder> {
  const file = await readGgufFile(memorySource(gguf));
  const { metadata } = file;
  const tensors: HfTensorSpec[] = [];
  for (const { name, type, shape, offsetBytes, sizeBytes } of file.tensors.values()) {
    const dtype = type.toUpperCase();
    const data = gguf.slice(offsetBytes, offsetBytes + sizeBytes);
    const [, layer, stem = ''] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(name) ?? [];
    const part = /^ffn_(gate|up|down)_exps$/.exec(stem)?.[1];
    if (part !== undefined) {
      const [experts, ...own] = shape as [number, ...number[]];
      const bytes = sizeBytes / experts;
      for (let e = 0; e < experts; e++) {
        const expertName = `model.layers.${layer}.mlp.experts.${e}.${part}_proj.weight`;
        tensors.push({ name: expertName, dtype, shape: own, data: data.slice(e * bytes, (e + 1) * bytes) });
      }
    } else {
      const hfName = layer === undefined ? NAMES[name]! : `model.layers.${layer}.${NAMES[stem]!}.weight`;
      tensors.push({ name: hfName, dtype, shape, data });
    }
  }
  const key = (name: string) => `olmoe.${name}`;
  const embedding = file.tensors.get('token_embd.weight')!.shape;
  const folder: Folder = new Map();
  folder.set(
    'config.json',
    toJson({
      model_type: 'olmoe',
      hidden_act: 'silu',
      vocab_size: embedding[0],
      hidden_size: embedding[1],
      num_hidden_layers: metadata.getInteger(key('block_count')),
      num_attention_heads: metadata.getInteger(key('attention.head_count')),
      num_key_value_heads: metadata.getInteger(key('attention.head_count_kv')),
      max_position_embeddings: metadata.getInteger(key('context_length')),
      rms_norm_eps: metadata.getNumber(key('attention.layer_norm_rms_epsilon')),
      rope_parameters: {
        rope_type: 'default',
        rope_theta: metadata.getNumber(key('rope.freq_base'), { default: 10_000 }),
      },
      num_experts: metadata.getInteger(key('expert_count')),
      num_experts_per_tok: metadata.getInteger(key('expert_used_count')),
      norm_topk_prob: metadata.getBool(key('expert_weights_norm'), false),
      clip_qkv: metadata.has(key('attention.clamp_kqv')) ? metadata.getNumber(key('attention.clamp_kqv')) : null,
      tie_word_embeddings: !file.tensors.has('output.weight'),
    }),
  );
  const data = file.readTokenizer(embedding[0]!);
  const added = data.tokens.flatMap((content, id) =>
    data.tokenTypes![id] === 3 ? [{ id, content, special: true, normalized: false }] : [],
  );
  const plain = data.tokens.flatMap((token, id) => (data.tokenTypes![id] === 1 ? [[token, id] as const] : []));
  folder.set(
    'tokenizer.json',
    toJson({
      added_tokens: added,
      normalizer: null,
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      model: { type: 'BPE', vocab: Object.fromEntries(plain), merges: data.merges },
    }),
  );
  folder.set(
    'tokenizer_config.json',
    toJson({
      add_bos_token: data.addBos,
      bos_token: data.bosId === null ? null : { content: data.tokens[data.bosId] },
      eos_token: data.endIds[0] === undefined ? null : data.tokens[data.endIds[0]],
      ...(data.chatTemplate === null ? {} : { chat_template: data.chatTemplate }),
    }),
  );
  if (shards === 1) folder.set('model.safetensors', writeSafetensors(tensors));
  else {
    const weightMap: Record<string, string> = {};
    for (let shard = 0; shard < shards; shard++) {
      const name = `model-0000${shard + 1}-of-0000${shards}.safetensors`;
      const own = tensors.filter((_, i) => i % shards === shard);
      folder.set(name, writeSafetensors(own));
      for (const tensor of own) weightMap[tensor.name] = name;
    }
    folder.set('model.safetensors.index.json', toJson({ metadata: {}, weight_map: weightMap }));
  }
  return folder;
}

export function openFolder(folder: Folder, name = 'folder'): CheckpointFiles {
  return {
    name,
    ggufPath: null,
    find: async (path): Promise<ByteSource | null> => {
      const bytes = folder.get(path);
      return bytes ? memorySource(bytes, `${name}/${path}`) : null;
    },
  };
}
