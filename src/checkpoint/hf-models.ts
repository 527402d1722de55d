/**
 * How Hugging Face repositories name what GGUF files name otherwise: `config.json` in GGUF's keys, tensors by role.
 * Owns the registry by `model_type`: adding one is its entry here. What the architecture is otherwise is the business
 * of architectures.ts, which reads both.
 */
import { EngineError } from '../errors';
import type { TensorNames } from './architecture';
import type { GgufMetadata, MetadataScalar } from './gguf-metadata';

/** Keys without the architecture's prefix; what is undefined is left out. */
export type HfKeys = Readonly<Record<string, MetadataScalar | readonly MetadataScalar[] | undefined>>;

export interface HfModel {
  /** `model_type`. */
  readonly modelType: string;
  /** The GGUF name of the architecture. */
  readonly architecture: string;
  /** @throws EngineError `BAD_FILE`, `UNSUPPORTED` */
  getKeys(config: GgufMetadata): HfKeys;
  /** With `{i}` for the layer and `{e}` for the expert, where each has a tensor of its own. */
  readonly names: Partial<TensorNames>;
}

/** Names that nearly all repositories share. */
const commonNames: Partial<TensorNames> = {
  embedding: 'model.embed_tokens.weight',
  outputNorm: 'model.norm.weight',
  head: 'lm_head.weight',
  attnNorm: 'model.layers.{i}.input_layernorm.weight',
  qProj: 'model.layers.{i}.self_attn.q_proj.weight',
  kProj: 'model.layers.{i}.self_attn.k_proj.weight',
  vProj: 'model.layers.{i}.self_attn.v_proj.weight',
  qBias: 'model.layers.{i}.self_attn.q_proj.bias',
  kBias: 'model.layers.{i}.self_attn.k_proj.bias',
  vBias: 'model.layers.{i}.self_attn.v_proj.bias',
  qNorm: 'model.layers.{i}.self_attn.q_norm.weight',
  kNorm: 'model.layers.{i}.self_attn.k_norm.weight',
  oProj: 'model.layers.{i}.self_attn.o_proj.weight',
  oBias: 'model.layers.{i}.self_attn.o_proj.bias',
  ffnNorm: 'model.layers.{i}.post_attention_layernorm.weight',
  router: 'model.layers.{i}.mlp.gate.weight',
  gateProj: 'model.layers.{i}.mlp.experts.{e}.gate_proj.weight',
  upProj: 'model.layers.{i}.mlp.experts.{e}.up_proj.weight',
  downProj: 'model.layers.{i}.mlp.experts.{e}.down_proj.weight',
};

const hfModels: readonly HfModel[] = [
  {
    modelType: 'olmoe',
    architecture: 'olmoe',
    names: commonNames,
    getKeys: (config) => ({
      ...getDecoderKeys(config),
      expert_count: config.getInteger('num_experts', { default: 64 }),
      expert_used_count: config.getInteger('num_experts_per_tok', { default: 8 }),
      expert_weights_norm: config.getBool('norm_topk_prob', false),
      'attention.clamp_kqv': config.has('clip_qkv') ? config.getNumber('clip_qkv') : undefined,
    }),
  },
];

/** Keys that nearly all configurations share. */
export function getDecoderKeys(config: GgufMetadata): HfKeys {
  const activation = config.getString('hidden_act', 'silu');
  if (activation !== 'silu') refuse(config, 'hidden_act', activation, 'silu');
  const theta = ['rope_parameters.rope_theta', 'rope_theta'].find((key) => config.has(key));
  const heads = config.getInteger('num_attention_heads');
  return {
    block_count: config.getInteger('num_hidden_layers'),
    context_length: config.getInteger('max_position_embeddings'),
    'attention.head_count': heads,
    'attention.head_count_kv': config.getInteger('num_key_value_heads', { default: heads }),
    'attention.layer_norm_rms_epsilon': config.getNumber('rms_norm_eps'),
    'rope.freq_base': theta === undefined ? 10_000 : config.getNumber(theta),
    ...getRopeScaling(config),
  };
}

/** transformers 5 writes `rope_parameters`, older versions `rope_scaling`. */
function getRopeScaling(config: GgufMetadata): HfKeys {
  const key = ['rope_parameters.rope_type', 'rope_scaling.rope_type', 'rope_scaling.type'].find((name) =>
    config.has(name),
  );
  const kind = key === undefined ? 'default' : config.getString(key);
  if (kind === 'default') return {};
  if (kind !== 'linear' || key === undefined) return refuse(config, key ?? 'rope_scaling', kind, 'default, linear');
  const factor = config.getNumber(`${key.split('.')[0]}.factor`, { min: 1 });
  return { 'rope.scaling.type': 'linear', 'rope.scaling.factor': factor };
}

function refuse(config: GgufMetadata, key: string, value: string, accepted: string): never {
  throw new EngineError(
    'UNSUPPORTED',
    `${config.sourceName}: "${key}" is "${value.slice(0, 80)}"; accepted: ${accepted}`,
  );
}

/** @throws EngineError `UNSUPPORTED` for a `model_type` that webmoe does not know. */
export function getHfModel(config: GgufMetadata): HfModel {
  const modelType = config.getString('model_type');
  const model = hfModels.find((candidate) => candidate.modelType === modelType);
  if (model) return model;
  return refuse(config, 'model_type', modelType, hfModels.map((known) => known.modelType).join(', '));
}
