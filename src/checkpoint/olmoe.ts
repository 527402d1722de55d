/**
 * OLMoE (arXiv 2409.02060) as llama.cpp's converter writes it: `olmoe.*` keys and `blk.{i}.*` tensors.
 * Owns the translation to ModelConfig. Tensor shapes win over keys that say the same thing.
 *
 * The converter does not permute Q and K (half-split RoPE), writes no expert width (`feed_forward_length` is it), and
 * leaves out `expert_weights_norm`, which is false.
 */
import { EngineError } from '../errors';
import { type Architecture, type ExpertTensors, type ResidentSource, TensorReader } from './architecture';
import type { Checkpoint } from './checkpoint';
import type { ModelConfig } from './model-config';

const MAX_LAYERS = 1024;
const MAX_HEADS = 1024;
const MAX_HIDDEN_SIZE = 65_536;
const MAX_VOCAB_SIZE = 1_000_000;
const MAX_EXPERTS = 512;
const MAX_CONTEXT_LENGTH = 2 ** 24;

export const olmoe: Architecture = {
  name: 'olmoe',
  read(gguf) {
    const { metadata } = gguf;
    const tensors = new TensorReader(gguf);
    refuseVariants(gguf);

    const embedding = tensors.get('token_embd.weight', 2);
    const [vocabSize, hiddenSize] = embedding.shape as [number, number];
    checkRange(gguf, 'vocabulary size (rows of token_embd.weight)', vocabSize, 1, MAX_VOCAB_SIZE);
    checkRange(gguf, 'hidden size (columns of token_embd.weight)', hiddenSize, 32, MAX_HIDDEN_SIZE);
    const layers = metadata.getInteger('olmoe.block_count', { min: 1, max: MAX_LAYERS });

    const heads = metadata.getInteger('olmoe.attention.head_count', { min: 1, max: MAX_HEADS });
    const kvHeads = metadata.getInteger('olmoe.attention.head_count_kv', { min: 1, max: heads, default: heads });
    if (heads % kvHeads !== 0) {
      fail(gguf, `${heads} attention heads over ${kvHeads} key/value heads; a multiple is needed`);
    }
    const qWidth = tensors.get('blk.0.attn_q.weight', 2).shape[0] as number;
    const headDim = qWidth / heads;
    if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
      fail(gguf, `blk.0.attn_q.weight has ${qWidth} rows for ${heads} heads; an even number per head is needed`);
    }
    const kvWidth = kvHeads * headDim;
    for (const key of ['rope.dimension_count', 'attention.key_length', 'attention.value_length']) {
      const value = metadata.getInteger(`olmoe.${key}`, { default: headDim });
      if (value !== headDim) unsupported(gguf, `"olmoe.${key}" is ${value}; only the head size, ${headDim}, is run`);
    }

    const firstExperts = tensors.get('blk.0.ffn_down_exps.weight', 3);
    const [experts, , expertWidth] = firstExperts.shape as [number, number, number];
    checkRange(gguf, 'experts (blk.0.ffn_down_exps.weight)', experts, 1, MAX_EXPERTS);
    checkRange(gguf, 'expert width (blk.0.ffn_down_exps.weight)', expertWidth, 32, MAX_HIDDEN_SIZE);
    const declared = metadata.getInteger('olmoe.expert_count', { default: experts });
    if (declared !== experts) {
      fail(gguf, `"olmoe.expert_count" is ${declared}; blk.0.ffn_down_exps.weight has ${experts} experts`);
    }
    const expertsPerToken = metadata.getInteger('olmoe.expert_used_count', { min: 1, max: experts });

    const resident: ResidentSource[] = [
      { role: 'embedding', layer: null, tensor: embedding },
      { role: 'outputNorm', layer: null, tensor: tensors.getShaped('output_norm.weight', [hiddenSize]) },
    ];
    // Without an output matrix the embedding is the head.
    if (tensors.has('output.weight')) {
      const tensor = tensors.getShaped('output.weight', [vocabSize, hiddenSize]);
      resident.push({ role: 'head', layer: null, tensor });
    }
    const expertTensors: ExpertTensors[] = [];
    for (let layer = 0; layer < layers; layer++) {
      const get = (name: string, shape: readonly number[]) => tensors.getShaped(`blk.${layer}.${name}.weight`, shape);
      resident.push(
        { role: 'attnNorm', layer, tensor: get('attn_norm', [hiddenSize]) },
        { role: 'qProj', layer, tensor: get('attn_q', [qWidth, hiddenSize]) },
        { role: 'kProj', layer, tensor: get('attn_k', [kvWidth, hiddenSize]) },
        { role: 'vProj', layer, tensor: get('attn_v', [kvWidth, hiddenSize]) },
        { role: 'qNorm', layer, tensor: get('attn_q_norm', [qWidth]) },
        { role: 'kNorm', layer, tensor: get('attn_k_norm', [kvWidth]) },
        { role: 'oProj', layer, tensor: get('attn_output', [hiddenSize, qWidth]) },
        { role: 'ffnNorm', layer, tensor: get('ffn_norm', [hiddenSize]) },
        { role: 'router', layer, tensor: get('ffn_gate_inp', [experts, hiddenSize]) },
      );
      expertTensors.push(tensors.getExperts(`blk.${layer}`, experts, expertWidth, hiddenSize));
    }
    tensors.checkAllTaken('olmoe');

    const clip = metadata.getNumber('olmoe.attention.clamp_kqv', { min: 0, default: 0 });
    const config: ModelConfig = {
      architecture: 'olmoe',
      layers,
      hiddenSize,
      vocabSize,
      contextLength: metadata.getInteger('olmoe.context_length', { min: 1, max: MAX_CONTEXT_LENGTH }),
      normEpsilon: metadata.getNumber('olmoe.attention.layer_norm_rms_epsilon', { min: 1e-12, max: 0.1 }),
      attention: {
        heads,
        kvHeads,
        headDim,
        scale: 1 / Math.sqrt(headDim),
        qkNorm: 'full',
        ropeTheta: metadata.getNumber('olmoe.rope.freq_base', { min: 1, max: 1e12, default: 10_000 }),
        clipQkv: clip > 0 ? clip : null,
      },
      moe: {
        experts,
        expertsPerToken,
        expertWidth,
        normalizeTopK: metadata.getBool('olmoe.expert_weights_norm', false),
      },
      moeLayers: Array.from({ length: layers }, (_, layer) => layer),
    };
    return { config, resident, experts: expertTensors };
  },
};

/** Keys that would change the computation, with the only value that is run. */
function refuseVariants(gguf: Checkpoint): void {
  const { metadata } = gguf;
  const scaling = metadata.getString('olmoe.rope.scaling.type', 'none');
  if (scaling !== 'none') unsupported(gguf, `RoPE scaling "${scaling.slice(0, 80)}"; only unscaled RoPE is run`);
  const variants: readonly (readonly [key: string, only: number, meaning: string])[] = [
    ['expert_gating_func', 1, 'softmax'],
    ['expert_shared_count', 0, 'no shared experts'],
    ['expert_group_count', 1, 'one group of experts'],
    ['leading_dense_block_count', 0, 'experts in every layer'],
    ['expert_weights_scale', 1, 'unscaled expert weights'],
    ['attention.sliding_window', 0, 'full attention'],
  ];
  for (const [key, only, meaning] of variants) {
    const value = metadata.getNumber(`olmoe.${key}`, { default: only });
    // Converters write 0 for "not used".
    if (value !== only && value !== 0)
      unsupported(gguf, `"olmoe.${key}" is ${value}; only ${only} (${meaning}) is run`);
  }
}

function checkRange(gguf: Checkpoint, what: string, value: number, min: number, max: number): void {
  if (value < min || value > max) fail(gguf, `${what}: ${value}; ${min} to ${max} is possible`);
}

function fail(gguf: Checkpoint, message: string): never {
  throw new EngineError('BAD_FILE', `${gguf.sourceName}: ${message}`);
}

function unsupported(gguf: Checkpoint, message: string): never {
  throw new EngineError('UNSUPPORTED', `${gguf.sourceName}: ${message}`);
}
