/**
 * How Hugging Face repositories say what GGUF files say otherwise: `config.json` in GGUF's keys, tensors by role.
 * Owns the registry by `model_type`: adding one is its entry here. What the architecture is otherwise is the business
 * of architectures.ts, which reads both.
 */
import type { GgufMetadata } from './gguf-metadata';
import {
  getDecoderKeys,
  getHeadDim,
  getLatentYarn,
  getLayerTypes,
  getNumber,
  getRopeKind,
  getRopeNumber,
  getRopeScaling,
  getSlides,
  getUniform,
  getWindowKeys,
  getYarnTraits,
  type HfKeys,
  refuse,
  requireRopeNumber,
  requireRopeNumbers,
} from './hf-config';
import { createEntry, joinMxfp4, splitColumns, splitHalves, splitValues, transposeExperts } from './hf-entries';
import { getDeepseekKeys, getExpertKeys, getGroupKeys, type HfModel } from './hf-model';
import { blockSparseNames, commonNames, getSharedNames, latentNames, lfm2Names, stackedNames } from './hf-names';
import { researchModels } from './hf-research';
import type { HfLayout } from './hf-tensors';

/** Keys of the Qwen line. */
function getQwenKeys(config: GgufMetadata): HfKeys {
  return {
    ...getDecoderKeys(config),
    ...getRopeScaling(config),
    ...getExpertKeys(config, ['num_experts', 'num_local_experts'], 'num_experts_per_tok'),
    ...getWindowKeys(config, config.getBool('use_sliding_window', false)),
    expert_weights_norm: config.getBool('norm_topk_prob', false),
  };
}

/** Layers behind the last one guess a token further on; webmoe does not run them. */
function isBehindLast(name: string, config: GgufMetadata): boolean {
  const layer = Number(/^model\.layers\.(\d+)\./.exec(name)?.[1] ?? -1);
  return config.has('num_nextn_predict_layers') && layer >= config.getInteger('num_hidden_layers');
}

const slidesEverywhere = (): boolean => true;
const MLP = 'model.layers.{i}.mlp';

const hfModels: readonly HfModel[] = [
  {
    modelType: 'olmoe',
    architecture: 'olmoe',
    names: { ...commonNames, ...stackedNames },
    getKeys: (config) => ({
      ...getDecoderKeys(config),
      ...getRopeScaling(config),
      expert_count: config.getInteger('num_experts', { default: 64 }),
      expert_used_count: config.getInteger('num_experts_per_tok', { default: 8 }),
      expert_weights_norm: config.getBool('norm_topk_prob', false),
      'attention.clamp_kqv': getNumber(config, 'clip_qkv'),
    }),
  },
  {
    modelType: 'mixtral',
    architecture: 'llama',
    names: { ...commonNames, ...blockSparseNames },
    getKeys: (config) => ({
      ...getDecoderKeys(config, { theta: 1e6 }),
      ...getRopeScaling(config),
      ...getExpertKeys(config, ['num_local_experts', 'num_experts'], 'num_experts_per_tok'),
      ...getWindowKeys(config),
    }),
    // Only converters reorder q and k.
    getTraits: () => ({ pairing: 'half', slides: slidesEverywhere }),
  },
  {
    modelType: 'qwen2_moe',
    architecture: 'qwen2moe',
    names: {
      ...commonNames,
      ...stackedNames,
      ...getSharedNames('shared_expert'),
      sharedScale: `${MLP}.shared_expert_gate.weight`,
    },
    getKeys: getQwenKeys,
    getTraits: (config) => {
      const sliding = config.getInteger('max_window_layers', { default: 28 });
      return { slides: getSlides(config, (layer) => layer % 2 === 0 && layer < sliding) };
    },
  },
  {
    modelType: 'qwen3_moe',
    architecture: 'qwen3moe',
    names: { ...commonNames, ...stackedNames },
    getKeys: getQwenKeys,
    getTraits: () => ({ slides: slidesEverywhere }),
  },
  ...['granitemoe', 'granitemoeshared'].map(
    (modelType): HfModel => ({
      modelType,
      architecture: 'granitemoe',
      names: {
        ...commonNames,
        router: [
          'model.layers.{i}.block_sparse_moe.router.layer.weight',
          'model.layers.{i}.block_sparse_moe.router.weight',
        ],
        gateUpProj: [
          'model.layers.{i}.block_sparse_moe.input_linear.weight',
          'model.layers.{i}.block_sparse_moe.experts.gate_up_proj',
        ],
        downProj: [
          'model.layers.{i}.block_sparse_moe.output_linear.weight',
          'model.layers.{i}.block_sparse_moe.experts.down_proj',
        ],
        sharedDown: 'model.layers.{i}.shared_mlp.output_linear.weight',
      },
      layouts: [
        {
          patterns: ['model.layers.{i}.shared_mlp.input_linear.weight'],
          roles: ['sharedGate', 'sharedUp'],
          make: (source, tensor) => splitHalves(createEntry(source, tensor)),
        },
      ],
      getKeys: (config) => ({
        ...getDecoderKeys(config),
        ...getRopeScaling(config),
        ...getExpertKeys(config, ['num_local_experts'], 'num_experts_per_tok'),
        'attention.scale': config.getNumber('attention_multiplier', { default: 1 }),
        embedding_scale: config.getNumber('embedding_multiplier', { default: 1 }),
        residual_scale: config.getNumber('residual_multiplier', { default: 1 }),
        logit_scale: config.getNumber('logits_scaling', { default: 1 }),
      }),
      getTraits: () => ({ pairing: 'half' }),
    }),
  ),
  {
    modelType: 'phimoe',
    architecture: 'phimoe',
    names: { ...commonNames, ...blockSparseNames },
    getKeys: (config) => ({
      ...getDecoderKeys(config, { theta: 1e6 }),
      ...getLongrope(config),
      ...getExpertKeys(config, ['num_local_experts'], 'num_experts_per_tok'),
      ...getWindowKeys(config),
    }),
    getTraits: (config) => ({
      slides: slidesEverywhere,
      router: { jitter: config.getNumber('router_jitter_noise', { min: 0, max: 1, default: 0.01 }) },
    }),
    getVectors: (config) =>
      getRopeKind(config).kind === 'longrope' ? { ropeFactors: requireRopeNumbers(config, 'short_factor') } : {},
  },
  {
    modelType: 'gpt_oss',
    architecture: 'gpt-oss',
    names: { ...commonNames, router: `${MLP}.router.weight`, routerBias: `${MLP}.router.bias` },
    layouts: getGptOssLayouts(),
    getKeys: (config) => ({
      ...getDecoderKeys(config, { theta: 150_000 }),
      ...getRopeScaling(config),
      ...getExpertKeys(config, ['num_local_experts'], 'num_experts_per_tok'),
      ...getWindowKeys(config),
    }),
    getTraits: (config) => ({
      ...getYarnTraits(config),
      slides: getSlides(config, (layer) => layer % 2 === 0),
      activation: {
        kind: 'clamped',
        alpha: config.getNumber('swiglu_alpha', { default: 1.702 }),
        limit: config.getNumber('swiglu_limit', { min: 0, default: 7 }),
      },
    }),
  },
  {
    modelType: 'glm4_moe',
    architecture: 'glm4moe',
    names: {
      ...commonNames,
      ...stackedNames,
      ...getSharedNames('shared_experts'),
      choiceBias: `${MLP}.gate.e_score_correction_bias`,
    },
    getKeys: (config) => ({
      ...getDecoderKeys(config),
      ...getRopeScaling(config),
      ...getGroupKeys(config),
      'rope.dimension_count': Math.floor(getHeadDim(config) * getRotaryShare(config)),
      expert_weights_norm: config.getBool('norm_topk_prob', true),
    }),
    isSkipped: isBehindLast,
  },
  {
    modelType: 'deepseek_v2',
    architecture: 'deepseek2',
    names: { ...commonNames, ...stackedNames, ...getSharedNames('shared_experts'), ...latentNames },
    // Weights are not renormalised, whatever `norm_topk_prob` says.
    getKeys: getDeepseekKeys,
  },
  {
    modelType: 'deepseek_v3',
    architecture: 'deepseek2',
    names: {
      ...commonNames,
      ...stackedNames,
      ...getSharedNames('shared_experts'),
      ...latentNames,
      choiceBias: `${MLP}.gate.e_score_correction_bias`,
    },
    getKeys: (config) => ({
      ...getDecoderKeys(config),
      ...getGroupKeys(config),
      ...getLatentYarn(config),
      expert_gating_func: 2,
      expert_weights_norm: config.getBool('norm_topk_prob', true),
    }),
    getTraits: (config) => ({ pairing: config.getBool('rope_interleave', true) ? 'interleaved' : 'half' }),
    isSkipped: isBehindLast,
  },
  {
    modelType: 'lfm2_moe',
    architecture: 'lfm2moe',
    names: { ...commonNames, ...lfm2Names },
    getKeys: (config) => {
      getLayerTypes(config, ['full_attention', 'conv']);
      return {
        ...getDecoderKeys(config, { theta: 1e6, epsilon: 'norm_eps' }),
        ...getRopeScaling(config),
        ...getExpertKeys(config, ['num_experts'], 'num_experts_per_tok'),
        'shortconv.l_cache': config.getInteger('conv_L_cache', { default: 3 }),
        expert_weights_scale: config.getNumber('routed_scaling_factor', { default: 1 }),
        expert_weights_norm: config.getBool('norm_topk_prob', true),
      };
    },
  },
  {
    modelType: 'hunyuan_v1_moe',
    architecture: 'hunyuan-moe',
    names: {
      ...commonNames,
      ...stackedNames,
      ...getSharedNames('shared_mlp'),
      router: [`${MLP}.gate.wg.weight`, `${MLP}.gate.weight`],
      qNorm: 'model.layers.{i}.self_attn.query_layernorm.weight',
      kNorm: 'model.layers.{i}.self_attn.key_layernorm.weight',
    },
    getKeys: (config) => {
      const keys = getDecoderKeys(config);
      return {
        ...keys,
        ...getStretchedBase(config, keys['rope.freq_base'] as number),
        expert_count: getUniform(config, 'num_experts'),
        expert_used_count: getUniform(config, 'moe_topk'),
      };
    },
  },
  {
    modelType: 'ernie4_5_moe',
    architecture: 'ernie4_5-moe',
    names: {
      ...commonNames,
      ...stackedNames,
      ...getSharedNames('shared_experts'),
      choiceBias: [`${MLP}.moe_statics.e_score_correction_bias`, `${MLP}.gate.moe_statics.e_score_correction_bias`],
    },
    getKeys: (config) => ({
      ...getDecoderKeys(config, { theta: 500_000 }),
      ...getRopeScaling(config),
      expert_count: getUniform(config, 'moe_num_experts'),
      expert_used_count: config.getInteger('moe_k'),
    }),
    getTraits: (config) => ({ router: { sumFloor: config.getNumber('moe_norm_min', { min: 0, default: 1e-12 }) } }),
    // Layers that guess further ahead.
    isSkipped: (name) => /^model\.mtp_/.test(name),
  },
  ...researchModels,
];

/** transformers takes a half where the configuration says nothing (GLM-4.5). */
function getRotaryShare(config: GgufMetadata): number {
  return getRopeNumber(config, 'partial_rotary_factor') ?? config.getNumber('partial_rotary_factor', { default: 0.5 });
}

/** Phi-3.5-MoE. The short factors count at every length; webmoe has one factor on cosines and sines of them. */
function getLongrope(config: GgufMetadata): HfKeys {
  const { key, kind } = getRopeKind(config);
  if (kind === 'default') return {};
  if (kind !== 'longrope') return refuse(config, key, kind, 'default, longrope');
  const [short, long] = [requireRopeNumber(config, 'short_mscale'), requireRopeNumber(config, 'long_mscale')];
  if (short !== long) refuse(config, 'long_mscale', String(long), `the same as "short_mscale", ${short}`);
  return {
    'rope.scaling.attn_factor': short,
    'rope.scaling.original_context_length':
      getRopeNumber(config, 'original_max_position_embeddings') ??
      config.getInteger('original_max_position_embeddings'),
  };
}

/** Hunyuan: a base times alpha^(d / (d - 2)), at every length alike. */
function getStretchedBase(config: GgufMetadata, base: number): HfKeys {
  const { key, kind } = getRopeKind(config);
  if (kind === 'default') return {};
  const alpha = getRopeNumber(config, 'alpha');
  if ((kind !== 'dynamic' && kind !== 'ntk_alpha') || !alpha)
    refuse(config, key, kind, 'default, dynamic with "alpha"');
  const headDim = getHeadDim(config);
  return { 'rope.freq_base': base * alpha ** (headDim / (headDim - 2)) };
}

/** gpt-oss: MXFP4 in two tensors, or plain and transposed; gate and up in alternate rows or columns. */
function getGptOssLayouts(): HfLayout[] {
  const experts = `${MLP}.experts`;
  return [
    {
      patterns: [`${experts}.gate_up_proj_blocks`, `${experts}.gate_up_proj_scales`],
      roles: ['gateProj', 'upProj'],
      make: (source, blocks, scales) => joinMxfp4(source, blocks, scales, 2),
    },
    {
      patterns: [`${experts}.down_proj_blocks`, `${experts}.down_proj_scales`],
      roles: ['downProj'],
      make: (source, blocks, scales) => joinMxfp4(source, blocks, scales, 1),
    },
    {
      patterns: [`${experts}.gate_up_proj`],
      roles: ['gateProj', 'upProj'],
      make: (source, tensor) => splitColumns(createEntry(source, tensor)),
    },
    {
      patterns: [`${experts}.down_proj`],
      roles: ['downProj'],
      make: (source, tensor) => [transposeExperts(createEntry(source, tensor))],
    },
    {
      patterns: [`${experts}.gate_up_proj_bias`],
      roles: ['gateBias', 'upBias'],
      make: (source, tensor) => splitValues(createEntry(source, tensor)),
    },
    {
      patterns: [`${experts}.down_proj_bias`],
      roles: ['downBias'],
      make: (source, tensor) => [createEntry(source, tensor)],
    },
  ];
}

/** `model_type`s and the architecture each is. */
export const hfModelTypes: readonly Pick<HfModel, 'modelType' | 'architecture'>[] = hfModels;

/** @throws EngineError `UNSUPPORTED` for a `model_type` that webmoe does not know. */
export function getHfModel(config: GgufMetadata): HfModel {
  const modelType = config.getString('model_type');
  const named = hfModels.filter((candidate) => candidate.modelType === modelType);
  const model = named.find((candidate) => candidate.isMeant?.(config) ?? true);
  if (model) return model;
  return refuse(config, 'model_type', modelType, hfModels.map((known) => known.modelType).join(', '));
}
