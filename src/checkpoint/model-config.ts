/**
 * A model described as data: everything the forward pass, the memory plan and the kernels need to know.
 * The field's names are translated to ours once, where a checkpoint is read; never read from a file here.
 */

/** Storage type of a weight matrix, as the kernels read it. */
export type WeightType = 'f32' | 'f16' | 'bf16' | 'q4_0' | 'q8_0';

export interface AttentionConfig {
  readonly heads: number;
  /** Key/value heads; a divisor of `heads`. */
  readonly kvHeads: number;
  readonly headDim: number;
  /** Factor on q·k before the softmax. */
  readonly scale: number;
  /** `full`: RMSNorm over the whole projected width before the head split (OLMoE). */
  readonly qkNorm: 'none' | 'full';
  /** Base of the half-split (NEOX) rotary embedding. */
  readonly ropeTheta: number;
  /** Clamp of q, k and v to [-clip, clip] (q and k after their norm), or null. */
  readonly clipQkv: number | null;
}

export interface MoeConfig {
  /** Experts per MoE layer. */
  readonly experts: number;
  /** Experts chosen per token and layer. */
  readonly expertsPerToken: number;
  /** Inner width of one expert. */
  readonly expertWidth: number;
  /** Whether the chosen experts' softmax weights are divided by their sum. */
  readonly normalizeTopK: boolean;
}

export interface ModelConfig {
  /** GGUF architecture name. */
  readonly architecture: 'olmoe';
  readonly layers: number;
  /** Width of the residual stream. */
  readonly hiddenSize: number;
  readonly vocabSize: number;
  /** Longest sequence the model declares, in tokens. */
  readonly contextLength: number;
  readonly normEpsilon: number;
  readonly attention: AttentionConfig;
  readonly moe: MoeConfig;
  /** Indices of the layers that have experts, ascending. */
  readonly moeLayers: readonly number[];
}
