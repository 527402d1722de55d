/** Tensor names of Hugging Face repositories, by role: those that nearly all share, and families of experts' names. */
import type { HfTensors } from './hf-tensors';

type Names = HfTensors['names'];

const ATTENTION = 'model.layers.{i}.self_attn';
const MLP = 'model.layers.{i}.mlp';

export const commonNames: Names = {
  embedding: 'model.embed_tokens.weight',
  outputNorm: 'model.norm.weight',
  outputNormBias: 'model.norm.bias',
  head: 'lm_head.weight',
  headBias: 'lm_head.bias',
  attnNorm: 'model.layers.{i}.input_layernorm.weight',
  attnNormBias: 'model.layers.{i}.input_layernorm.bias',
  qProj: `${ATTENTION}.q_proj.weight`,
  kProj: `${ATTENTION}.k_proj.weight`,
  vProj: `${ATTENTION}.v_proj.weight`,
  qBias: `${ATTENTION}.q_proj.bias`,
  kBias: `${ATTENTION}.k_proj.bias`,
  vBias: `${ATTENTION}.v_proj.bias`,
  qNorm: `${ATTENTION}.q_norm.weight`,
  kNorm: `${ATTENTION}.k_norm.weight`,
  sinks: `${ATTENTION}.sinks`,
  oProj: `${ATTENTION}.o_proj.weight`,
  oBias: `${ATTENTION}.o_proj.bias`,
  ffnNorm: 'model.layers.{i}.post_attention_layernorm.weight',
  ffnNormBias: 'model.layers.{i}.post_attention_layernorm.bias',
  router: `${MLP}.gate.weight`,
  mlpGate: `${MLP}.gate_proj.weight`,
  mlpUp: `${MLP}.up_proj.weight`,
  mlpDown: `${MLP}.down_proj.weight`,
};

/** Experts as transformers writes them, one by one, or as it keeps them, stacked. */
export const stackedNames: Names = {
  gateProj: `${MLP}.experts.{e}.gate_proj.weight`,
  upProj: `${MLP}.experts.{e}.up_proj.weight`,
  downProj: [`${MLP}.experts.{e}.down_proj.weight`, `${MLP}.experts.down_proj`],
  gateUpProj: `${MLP}.experts.gate_up_proj`,
};

/** Mixtral's. */
export const blockSparseNames: Names = {
  router: ['model.layers.{i}.block_sparse_moe.gate.weight', `${MLP}.gate.weight`, `${MLP}.router.weight`],
  gateProj: 'model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight',
  upProj: 'model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight',
  downProj: ['model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight', `${MLP}.experts.down_proj`],
  gateUpProj: `${MLP}.experts.gate_up_proj`,
};

/** DeepSeek's latent attention. */
export const latentNames: Names = {
  queryDown: `${ATTENTION}.q_a_proj.weight`,
  queryNorm: `${ATTENTION}.q_a_layernorm.weight`,
  qProj: [`${ATTENTION}.q_proj.weight`, `${ATTENTION}.q_b_proj.weight`],
  kvDown: `${ATTENTION}.kv_a_proj_with_mqa.weight`,
  kvNorm: `${ATTENTION}.kv_a_layernorm.weight`,
  kvUp: `${ATTENTION}.kv_b_proj.weight`,
};

const FEED_FORWARD = 'model.layers.{i}.feed_forward';
const CONVOLUTION = 'model.layers.{i}.conv';

/** LFM2-MoE's. */
export const lfm2Names: Names = {
  outputNorm: 'model.embedding_norm.weight',
  attnNorm: 'model.layers.{i}.operator_norm.weight',
  oProj: `${ATTENTION}.out_proj.weight`,
  qNorm: `${ATTENTION}.q_layernorm.weight`,
  kNorm: `${ATTENTION}.k_layernorm.weight`,
  convIn: `${CONVOLUTION}.in_proj.weight`,
  convInBias: `${CONVOLUTION}.in_proj.bias`,
  convTaps: `${CONVOLUTION}.conv.weight`,
  convBias: `${CONVOLUTION}.conv.bias`,
  convOut: `${CONVOLUTION}.out_proj.weight`,
  convOutBias: `${CONVOLUTION}.out_proj.bias`,
  ffnNorm: 'model.layers.{i}.ffn_norm.weight',
  router: `${FEED_FORWARD}.gate.weight`,
  choiceBias: `${FEED_FORWARD}.expert_bias`,
  gateProj: `${FEED_FORWARD}.experts.{e}.w1.weight`,
  upProj: `${FEED_FORWARD}.experts.{e}.w3.weight`,
  downProj: [`${FEED_FORWARD}.experts.{e}.w2.weight`, `${FEED_FORWARD}.experts.down_proj`],
  gateUpProj: `${FEED_FORWARD}.experts.gate_up_proj`,
  mlpGate: `${FEED_FORWARD}.w1.weight`,
  mlpUp: `${FEED_FORWARD}.w3.weight`,
  mlpDown: `${FEED_FORWARD}.w2.weight`,
};

/** The expert that all tokens share, as part of the MLP under a name of its own. */
export function getSharedNames(name: string): Names {
  return {
    sharedGate: `${MLP}.${name}.gate_proj.weight`,
    sharedUp: `${MLP}.${name}.up_proj.weight`,
    sharedDown: `${MLP}.${name}.down_proj.weight`,
  };
}
