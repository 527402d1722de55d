/**
 * A model described as data: everything the forward pass, the memory plan and the kernels need to know.
 * The field's names are translated to ours once, where a checkpoint is read; never read from a file here.
 */

/** Storage type of a weight matrix, as the kernels read it. */
export type WeightType =
  | 'f32'
  | 'f16'
  | 'bf16'
  | 'q8_0'
  | 'q4_0'
  | 'q4_1'
  | 'q5_0'
  | 'q5_1'
  | 'q2_k'
  | 'q3_k'
  | 'q4_k'
  | 'q5_k'
  | 'q6_k'
  | 'iq4_nl'
  | 'mxfp4';

/** `rms`: x / rms(x) · weight. `layer`: (x - mean) / deviation · weight + bias. */
export interface NormConfig {
  readonly kind: 'rms' | 'layer';
  readonly epsilon: number;
}

/** How rotary frequencies are stretched beyond the length a model was trained on; src/model/rope.ts has the formulas. */
export type RopeScaling =
  | { readonly kind: 'linear'; readonly factor: number }
  | {
      readonly kind: 'yarn';
      readonly factor: number;
      readonly originalLength: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      /** Whether the ends of the ramp are rounded to whole dimensions. */
      readonly truncate: boolean;
      /** Cosines and sines are multiplied by it. */
      readonly magnitude: number;
    }
  | {
      readonly kind: 'llama3';
      readonly factor: number;
      readonly lowFactor: number;
      readonly highFactor: number;
      readonly originalLength: number;
    }
  | {
      /** Every frequency has a divisor of its own: the tensor `ropeFactors`. */
      readonly kind: 'longrope';
      readonly originalLength: number;
      /** Cosines and sines are multiplied by it: below the original length, and from there on. */
      readonly magnitude: number;
      readonly longMagnitude: number;
    };

export interface RopeConfig {
  readonly theta: number;
  /** Dimensions of a head that turn: its first ones. Even. */
  readonly dims: number;
  /** `half`: dimension d turns with d + dims / 2 (NEOX). `interleaved`: 2d with 2d + 1. */
  readonly pairing: 'half' | 'interleaved';
  readonly scaling: RopeScaling | null;
}

/**
 * Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434), absorbed: what is cached of a position is one vector, a latent
 * behind its norm and a key that turns, and all heads read it as key and, but for its end, as value.
 */
export interface LatentConfig {
  /** Values of the latent. `headDim` is these and the dimensions that turn. */
  readonly rank: number;
  /** Dimensions of a head's query that do not turn, before they are multiplied with its matrix of keys. */
  readonly plainDim: number;
  /** Values of a head behind its matrix of values. */
  readonly valueDim: number;
  /** Values of the latent that queries are made of; null: they are made of the input. */
  readonly queryRank: number | null;
  /** Of the latents' norms. */
  readonly epsilon: number;
}

/** LFM2's short convolution: over a position and the ones before it, `taps` in all, channel by channel, between two gates. */
export interface ConvolutionConfig {
  readonly taps: number;
  /** Whether the convolution and both products add a bias. */
  readonly hasBias: boolean;
}

export interface AttentionConfig {
  readonly heads: number;
  /** Key/value heads; a divisor of `heads`. */
  readonly kvHeads: number;
  readonly headDim: number;
  /** Factor on q·k before the softmax. */
  readonly scale: number;
  /**
   * RMSNorm of q and k. `full`: over the whole projected width before the head split (OLMoE). `head`: over each head, before
   * the rotation. `head-after-rope`: over each head, behind it.
   */
  readonly qkNorm: 'none' | 'full' | 'head' | 'head-after-rope';
  readonly rope: RopeConfig;
  /** Clamp of q, k and v to [-clip, clip] (q and k after their norm), or null. */
  readonly clipQkv: number | null;
  /** Positions that a `sliding` layer sees, its own included; null where no layer slides. */
  readonly window: number | null;
  /** Whether the projections to q, k and v, and the one of the output, add a bias. */
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
  /** A learned logit per head that joins the softmax and is dropped behind it (gpt-oss). */
  readonly hasSinks: boolean;
  /** Null: keys and values are cached as they are. */
  readonly latent: LatentConfig | null;
}

/**
 * What mixes the positions of a layer: attention over all of them, over the last `window`, or a short convolution. `none`: it is
 * an MLP or experts alone, the second part of a layer as its file counts them.
 */
export type Mixer = 'full' | 'sliding' | 'convolution' | 'none';

/** From a token's scores to its experts and their weights; shaders/router_topk.wgsl has the order of things. */
export interface RouterConfig {
  /**
   * How logits become scores. `sparsemixer`: two experts, each by a softmax over those near the largest (Phi-3.5-MoE). `relu`:
   * experts with a positive logit, however many (BlockFFN).
   */
  readonly scoring: 'softmax' | 'sigmoid' | 'sparsemixer' | 'relu';
  /** A bias on the logits. */
  readonly logitBias: boolean;
  /** A bias on the scores that counts for the choice, not for the weights. */
  readonly choiceBias: boolean;
  /** Experts are chosen from the best groups only; null: from all. */
  readonly groups: {
    readonly count: number;
    readonly used: number;
    /** A group counts as its best score, or as the sum of its two best. */
    readonly rank: 'best' | 'two-best';
  } | null;
  /** Whether the weights are divided by their sum, and what is added to it or is the least it can be. */
  readonly normalize: boolean;
  readonly sumEpsilon: number;
  readonly sumFloor: number;
  /** Factor on the weights. */
  readonly scale: number;
  /** Of sparsemixer: experts further from the largest than twice this share are left out; else 0. */
  readonly jitter: number;
  /** Of `relu`: the epsilon of the scores' RMSNorm; null without one. */
  readonly scoreNorm: number | null;
  /** Further candidates of the choice that are no experts: they cost nothing and add nothing (AdaMoE). */
  readonly nullExperts: number;
  /** Of the chosen, best first, only those up to the first by which the sum of scores has passed this (dynamic routing). */
  readonly topP: number | null;
  /**
   * Values of the state by which a recurrent router scores experts: what a GRU makes of the input and of the state of the MoE
   * layer before (RMoE); null: it scores them by the input.
   */
  readonly stateWidth: number | null;
}

/** Whether a token may choose fewer experts than `expertsPerToken`. */
export function hasVariableCount({ scoring, nullExperts, topP }: RouterConfig): boolean {
  return scoring === 'relu' || nullExperts > 0 || topP !== null;
}

/**
 * Fewest slots of a layer: what a token may choose. A router that may choose all experts would need them all; its layers go in
 * waves where a token's choice is larger than the slots, so one is enough.
 */
export function getLeastSlots({ expertsPerToken, router }: Pick<MoeConfig, 'expertsPerToken' | 'router'>): number {
  return router.scoring === 'relu' ? 1 : expertsPerToken;
}

/** What a router and its experts read: the residual stream's norm; that, and the stream becomes it; or the stream as it is. */
export type RouterInput = 'norm' | 'normed-stream' | 'stream';

/** Round of a layer that is one of several rounds over the same experts; 0 of any other. */
export function getRound({ rounds }: Pick<MoeConfig, 'rounds'>, layer: number): number {
  return rounds ? layer % rounds.count : 0;
}

export function getRouterInput(moe: Pick<MoeConfig, 'rounds'>, layer: number): RouterInput {
  if (!moe.rounds) return 'norm';
  return getRound(moe, layer) === 0 ? 'normed-stream' : 'stream';
}

/** Page group of a MoE layer. */
export function getPageGroup({ layersPerGroup }: Pick<MoeConfig, 'layersPerGroup'>, moeLayer: number): number {
  return Math.floor(moeLayer / layersPerGroup);
}

/** MoE layers of a page group, ascending. */
export function listGroupLayers({ layersPerGroup }: Pick<MoeConfig, 'layersPerGroup'>, group: number): number[] {
  return Array.from({ length: layersPerGroup }, (_, i) => group * layersPerGroup + i);
}

/** What an expert does between its matrices. `silu`: silu(gate) · up. `clamped`: gpt-oss's, with its alpha and limit. */
export type Activation =
  | { readonly kind: 'silu' }
  | { readonly kind: 'clamped'; readonly alpha: number; readonly limit: number };

export interface MoeConfig {
  /** Experts that a MoE layer chooses from. */
  readonly experts: number;
  /**
   * Chain-of-Experts: so many rounds in turn, each a layer of its own, the first with the mixer. They go on with the residual
   * stream behind the first one's norm, share its experts and shared expert, and its router unless they have their own.
   */
  readonly rounds: { readonly count: number; readonly hasOwnRouters: boolean } | null;
  /** Neighbouring MoE layers that choose from the same experts, and so share their pages: a page group. 1: each has its own. */
  readonly layersPerGroup: number;
  /** Experts chosen per token and layer, at most. */
  readonly expertsPerToken: number;
  /** Inner width of one expert. */
  readonly expertWidth: number;
  readonly router: RouterConfig;
  readonly activation: Activation;
  /** Whether an expert has a gate; without one it is down(silu(up x)). */
  readonly isGated: boolean;
  /** Whether experts, and dense MLPs, have a third product that the other two's is multiplied with (OpenMoE). */
  readonly hasFactor: boolean;
  /** Whether an expert's products add biases. */
  readonly expertBias: boolean;
  /** An expert that every token uses, beside the chosen ones; `isGated`: times the sigmoid of a product of its own. */
  readonly shared: { readonly width: number; readonly isGated: boolean } | null;
}

export interface ModelConfig {
  /** GGUF architecture name. */
  readonly architecture: string;
  readonly layers: number;
  /** Width of the residual stream. */
  readonly hiddenSize: number;
  readonly vocabSize: number;
  /** Longest sequence the model declares, in tokens. */
  readonly contextLength: number;
  readonly norm: NormConfig;
  /** Factors on the embedding, on what every block adds to the residual stream, and on the logits. */
  readonly embeddingScale: number;
  readonly residualScale: number;
  readonly logitScale: number;
  /** Whether the embedding is the head too, and whether the head adds a bias. */
  readonly tiedHead: boolean;
  readonly headBias: boolean;
  /** One per layer. */
  readonly mixers: readonly Mixer[];
  readonly attention: AttentionConfig;
  /** Of the layers that mix by one; null where none does. */
  readonly convolution: ConvolutionConfig | null;
  readonly moe: MoeConfig;
  /** Indices of the layers that have experts, ascending. */
  readonly moeLayers: readonly number[];
  /** Inner width of the MLP of the layers that have none; null where all have. */
  readonly denseWidth: number | null;
}

/** A router's fields where a model says nothing else: softmax over all experts, the largest as they are. */
export const plainRouter: RouterConfig = {
  scoring: 'softmax',
  logitBias: false,
  choiceBias: false,
  groups: null,
  normalize: false,
  sumEpsilon: 0,
  sumFloor: 0,
  scale: 1,
  jitter: 0,
  scoreNorm: null,
  nullExperts: 0,
  topP: null,
  stateWidth: null,
};
