/**
 * Models of the research line, as their authors' code writes them: no converter to GGUF knows any. Owns their fields and names;
 * hf-models.ts has the registry that they are part of.
 */
import type { GgufMetadata } from './gguf-metadata';
import { getDecoderKeys, getRopeScaling, refuse } from './hf-config';
import { createEntry, joinRows, splitColumnHalves, splitHalves, transposeExperts } from './hf-entries';
import { getDeepseekKeys, getExpertKeys, type HfModel } from './hf-model';
import { blockSparseNames, commonNames, getSharedNames, latentNames, stackedNames } from './hf-names';

import type { HfLayout } from './hf-tensors';
import type { TensorRole } from './traits';

const MLP = 'model.layers.{i}.mlp';

const SPARSE = 'model.layers.{i}.block_sparse_moe';
/** Fields of Chain-of-Experts that choose among its forms, with the one that webmoe runs. */
const CHAIN_FIELDS = [
  ['inner_residual', true],
  ['outer_residual', false],
  ['attention_bias', false],
] as const;

function getRounds(config: GgufMetadata): number {
  return config.getInteger('inner_iter', { min: 1, max: 64 });
}

const EXPERTS = `${MLP}.experts`;
const EXTRA = 'model.layers.{i}.extra_mlp';

/** Layers with experts are every so many-th, the last of each run. */
function getMoeInterval(config: GgufMetadata): number {
  return config.getInteger('moe_layer_interval', { min: 1, max: config.getInteger('num_hidden_layers', { min: 1 }) });
}

/** OpenMoE's gate is two matrices, the second of which goes through silu; its rows are the first and the second half. */
function splitSwiglu(pattern: string): HfLayout {
  return {
    patterns: [pattern],
    roles: ['mlpUp', 'mlpGate'],
    make: (source, tensor) => splitHalves(createEntry(source, tensor)),
  };
}

/** Parts of a GRU as its parameters' names end. */
const [RESET, UPDATE, NEW] = ['r', 'z', 'n'];

/** A tensor of a GRU's three parts. */
function joinCell(role: TensorRole, name: string): HfLayout {
  return {
    patterns: [RESET, UPDATE, NEW].map((part) => `model.rnn_router.${name}${part}`),
    roles: [role],
    make: (source, ...tensors) => [joinRows(source, ...tensors)],
  };
}

export const researchModels: readonly HfModel[] = [
  {
    // AdaMoE (arXiv 2406.13233): Mixtral with a second gate for null experts. Its authors patch Mixtral and name no type.
    modelType: 'adamoe',
    architecture: 'adamoe',
    names: {
      ...commonNames,
      ...blockSparseNames,
      nullRouter: 'model.layers.{i}.block_sparse_moe.gate2.weight',
    },
    getKeys: (config) => ({
      ...getDecoderKeys(config, { theta: 1e6 }),
      ...getRopeScaling(config),
      ...getExpertKeys(config, ['num_local_experts'], 'num_experts_per_tok'),
      expert_null_count: config.getInteger('num_null_experts', { min: 1 }),
    }),
  },
  {
    // OpenMoE (arXiv 2402.01739); its files say "llama". A layer with experts has an MLP of its own behind them: a layer of ours
    // that mixes nothing. Attention has no scale. The authors' training drops tokens beyond an expert's capacity, and their
    // decoding turns queries one position further than their prefill does; here every token has its experts and its position.
    modelType: 'llama',
    isMeant: (config) => config.has('moe_layer_interval'),
    architecture: 'openmoe',
    names: {
      ...commonNames,
      ffnNorm: [commonNames.ffnNorm as string, 'model.layers.{i}.pre_extra_mlp_layernorm.weight'],
      router: `${MLP}.gate_weight`,
      mlpGate: [],
      mlpUp: [],
      mlpFactor: [`${MLP}.up_proj.weight`, `${EXTRA}.up_proj.weight`],
      mlpDown: [`${MLP}.down_proj.weight`, `${EXTRA}.down_proj.weight`],
    },
    layouts: [
      splitSwiglu(`${MLP}.gate_proj.weight`),
      splitSwiglu(`${EXTRA}.gate_proj.weight`),
      {
        patterns: [`${EXPERTS}.wi_gate`],
        roles: ['upProj', 'gateProj'],
        make: (source, tensor) => splitColumnHalves(createEntry(source, tensor)),
      },
      {
        patterns: [`${EXPERTS}.wi_up`],
        roles: ['factorProj'],
        make: (source, tensor) => [transposeExperts(createEntry(source, tensor))],
      },
      {
        patterns: [`${EXPERTS}.wo`],
        roles: ['downProj'],
        make: (source, tensor) => [transposeExperts(createEntry(source, tensor))],
      },
    ],
    getLayer: (config, layer, name) =>
      layer + Math.floor(layer / getMoeInterval(config)) + Number(name.includes('extra_mlp')),
    getKeys: (config) => {
      if (!config.getBool('mlp_gated', true)) refuse(config, 'mlp_gated', 'false', 'true');
      const layers = config.getInteger('num_hidden_layers', { min: 1 });
      return {
        ...getDecoderKeys(config, { activation: 'swiglu' }),
        ...getRopeScaling(config),
        ...getExpertKeys(config, ['num_experts'], 'router_topk'),
        block_count: layers + Math.floor(layers / getMoeInterval(config)),
        'attention.scale': 1,
      };
    },
    getTraits: (config) => {
      const interval = getMoeInterval(config);
      return { hasMixer: (layer) => (layer + 1) % (interval + 1) !== 0 };
    },
  },
  {
    // Dynamic routing (arXiv 2403.07652). Its authors' files say "llama", which without these fields has no experts.
    modelType: 'llama',
    architecture: 'dynamic-moe',
    names: {
      ...commonNames,
      ...stackedNames,
      attnNorm: 'model.layers.{i}.input_norm.weight',
      ffnNorm: 'model.layers.{i}.post_attention_norm.weight',
      router: `${MLP}.router.weight`,
      mlpGate: `${MLP}.mlp.gate_proj.weight`,
      mlpUp: `${MLP}.mlp.up_proj.weight`,
      mlpDown: `${MLP}.mlp.down_proj.weight`,
    },
    getKeys: (config) => {
      if (!config.has('top_p_threshold') || !config.has('num_experts')) {
        refuse(
          config,
          'model_type',
          'llama',
          'llama with "num_experts" and "top_p_threshold" (dynamic routing), or "moe_layer_interval" (OpenMoE)',
        );
      }
      const experts = config.getInteger('num_experts', { min: 1 });
      const topP = config.getNumber('top_p_threshold', { min: 1e-6, max: 1 });
      return {
        ...getDecoderKeys(config),
        ...getRopeScaling(config),
        expert_count: experts,
        // The largest probabilities of so many pass it, however they lie.
        expert_used_count: Math.min(experts, Math.floor(topP * experts) + 1),
        expert_top_p: topP,
      };
    },
  },
  {
    // RMoE (arXiv 2408.06793): Llama with Mixtral's experts, and one GRU for the routers of all layers.
    modelType: 'llama_moe_rnn',
    architecture: 'rmoe',
    names: {
      ...commonNames,
      ...blockSparseNames,
      router: `${SPARSE}.weight2`,
      routerInput: `${SPARSE}.weight1`,
    },
    layouts: [
      joinCell('cellInput', 'weight_i'),
      joinCell('cellState', 'weight_h'),
      joinCell('cellInputBias', 'bias_i'),
      joinCell('cellStateBias', 'bias_h'),
    ],
    getKeys: (config) => {
      requireString(config, 'moe_router_type', 'gru', 'gru');
      for (const key of ['add_moe_share_expert', 'add_moe_bias'])
        if (config.getBool(key, false)) refuse(config, key, 'true', 'false');
      return {
        ...getDecoderKeys(config),
        ...getRopeScaling(config),
        ...getExpertKeys(config, ['num_local_experts'], 'num_experts_per_tok'),
        router_state_length: config.getInteger('moe_router_rnn_hidden_size', { default: 256 }),
      };
    },
  },
  {
    // ReXMoE (arXiv 2510.17483): a router chooses from the experts of its layer and its neighbours. Its authors have released no
    // code: type, `expert_reuse_layers` and names are webmoe's, the latter as Qwen's and DeepSeek's. Row r of a router, of layers
    // with N experts each, is expert r mod N of the group's layer floor(r / N).
    modelType: 'rexmoe',
    architecture: 'rexmoe',
    names: { ...commonNames, ...stackedNames, ...getSharedNames('shared_experts') },
    getKeys: (config) => {
      const layers = config.getInteger('num_hidden_layers', { min: 1 });
      const reuse = config.getInteger('expert_reuse_layers', { min: 1 });
      if (layers % reuse !== 0)
        refuse(config, 'expert_reuse_layers', String(reuse), `divisors of num_hidden_layers, ${layers}`);
      return {
        ...getDecoderKeys(config),
        ...getRopeScaling(config),
        ...getExpertKeys(config, ['num_experts'], 'num_experts_per_tok'),
        expert_group_layers: reuse,
        expert_weights_norm: config.getBool('norm_topk_prob', false),
      };
    },
  },
  {
    // Chain-of-Experts (arXiv 2506.18945) in DeepSeek-V2's decoder: a layer's experts are asked in rounds, each a layer of ours. As
    // in the paper the residual stream goes on behind the norm, x = x + MoE(x) in every round; the authors' other residuals
    // (round the whole layer, or none) are refused. All layers have experts: their code runs no other.
    modelType: 'coe_deepseekv2',
    architecture: 'coe',
    names: {
      ...commonNames,
      ...stackedNames,
      ...getSharedNames('shared_experts'),
      ...latentNames,
      router: [`${MLP}.gate.weight`, `${MLP}.gate.{r}.weight`],
    },
    getLayer: (config, layer, name) => {
      const rounds = getRounds(config);
      const round = Number(/\.gate\.(\d+)\.weight$/.exec(name)?.[1] ?? 0);
      if (round >= rounds) refuse(config, 'inner_iter', String(rounds), `as many as there are routers ("${name}")`);
      return layer * rounds + round;
    },
    getKeys: (config) => {
      for (const [key, only] of CHAIN_FIELDS)
        if (config.getBool(key, only) !== only) refuse(config, key, String(!only), String(only));
      for (const [key, only] of [['first_k_dense_replace', 0] as const, ['moe_layer_freq', 1] as const]) {
        const value = config.getInteger(key, { default: only });
        if (value !== only) refuse(config, key, String(value), String(only));
      }
      requireString(config, 'scoring_func', 'softmax', 'softmax');
      const rounds = getRounds(config);
      const isNormed = config.getBool('norm_topk_prob', false) && config.getInteger('num_experts_per_tok') > 1;
      return {
        ...getDeepseekKeys(config),
        block_count: config.getInteger('num_hidden_layers', { min: 1 }) * rounds,
        expert_rounds: rounds,
        expert_round_routers: config.getBool('use_igate'),
        expert_weights_norm: isNormed,
        ...(isNormed && { expert_weights_scale: 1 }),
      };
    },
    getTraits: (config) => {
      const rounds = getRounds(config);
      return { hasMixer: (layer) => layer % rounds === 0 };
    },
  },
  {
    // BlockFFN (arXiv 2507.08771), in MiniCPM's decoder (arXiv 2404.06395): factors on embedding, residual branches and logits.
    modelType: 'minicpm',
    architecture: 'blockffn',
    names: {
      ...commonNames,
      ...latentNames,
      router: `${MLP}.router_proj.weight`,
      scoreNorm: `${MLP}.router_norm.weight`,
      upProj: [`${MLP}.up_proj`, `${MLP}.experts.up_proj.weight`],
      downProj: [`${MLP}.down_proj`, `${MLP}.experts.down_proj.weight`],
    },
    getKeys: (config) => {
      requireString(config, 'ffn_type', 'block', 'vanilla');
      requireString(config, 'router_act', 'relu', 'relu');
      const experts = config.getInteger('num_experts', { min: 1 });
      const hidden = config.getInteger('hidden_size', { min: 1 });
      const layers = config.getInteger('num_hidden_layers', { min: 1 });
      const kind = getScoreNorm(config);
      return {
        ...getDecoderKeys(config),
        ...getRopeScaling(config),
        expert_count: experts,
        expert_used_count: experts,
        expert_weights_norm: kind === 'sum',
        expert_weights_scale: kind === 'sum' ? 1 / getNormScale(config) : 1,
        embedding_scale: config.getNumber('scale_emb', { default: 1 }),
        residual_scale: config.getNumber('scale_depth', { default: 1 }) / Math.sqrt(layers),
        logit_scale: hidden / config.getNumber('dim_model_base', { min: 1, default: 1 }),
      };
    },
    getTraits: (config) => {
      const kind = getScoreNorm(config);
      return {
        router: {
          scoreNorm: kind === 'rms' ? config.getNumber('rms_norm_eps') : null,
          sumEpsilon: kind === 'sum' ? 1e-5 / getNormScale(config) : 0,
        },
      };
    },
  },
];

function requireString(config: GgufMetadata, key: string, only: string, fallback: string): void {
  const value = config.getString(key, fallback);
  if (value !== only) refuse(config, key, value, only);
}

/** What BlockFFN's scores go through behind their relu. */
function getScoreNorm(config: GgufMetadata): string {
  const kind = config.getString('norm_after_router', 'sum');
  return ['rms', 'sum', 'none'].includes(kind) ? kind : refuse(config, 'norm_after_router', kind, 'rms, sum, none');
}

/** Factor on the sum that scores are divided by. */
function getNormScale(config: GgufMetadata): number {
  return config.getNumber('norm_scale', { min: 1e-6, default: 1 });
}
