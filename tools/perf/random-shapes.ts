/**
 * Shapes of published models whose speed is measured with weights that mean nothing, and how they are cut to a machine.
 * Pure data and sums; random-model.ts makes the files.
 */

export interface RandomShape {
  readonly name: string;
  /** GGUF architecture that the shape belongs to. */
  readonly architecture: 'olmoe' | 'qwen3moe';
  readonly layers: number;
  readonly hiddenSize: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly experts: number;
  readonly expertsPerToken: number;
  readonly expertWidth: number;
  readonly vocabSize: number;
  readonly ropeTheta: number;
}

/** From the config.json of allenai/OLMoE-1B-7B-0924. */
const olmoe: RandomShape = {
  name: 'OLMoE-1B-7B',
  architecture: 'olmoe',
  layers: 16,
  hiddenSize: 2048,
  heads: 16,
  kvHeads: 16,
  headDim: 128,
  experts: 64,
  expertsPerToken: 8,
  expertWidth: 1024,
  vocabSize: 50_304,
  ropeTheta: 10_000,
};

/** From the config.json of Qwen/Qwen3-30B-A3B. */
export const qwen3Moe: RandomShape = {
  name: 'Qwen3-30B-A3B',
  architecture: 'qwen3moe',
  layers: 48,
  hiddenSize: 2048,
  heads: 32,
  kvHeads: 4,
  headDim: 128,
  experts: 128,
  expertsPerToken: 8,
  expertWidth: 768,
  vocabSize: 151_936,
  ropeTheta: 1_000_000,
};

export const randomShapes: readonly RandomShape[] = [olmoe, qwen3Moe];

/** Experts Q4_0, everything else that is a matrix Q8_0: blocks of 32 weights in so many bytes. */
const EXPERT_BLOCK_BYTES = 18;
const BLOCK_BYTES = 34;

export function getLayerBytes(shape: RandomShape): number {
  const { hiddenSize, heads, kvHeads, headDim, experts, expertWidth } = shape;
  const attention = 2 * (heads + kvHeads) * headDim * hiddenSize;
  return (3 * experts * expertWidth * hiddenSize * EXPERT_BLOCK_BYTES + attention * BLOCK_BYTES) / 32;
}

/** What a machine is given: all widths as published; as many layers as fit, and on a CPU a short vocabulary. */
export function cutShape(shape: RandomShape, { isSoftware }: { readonly isSoftware: boolean }): RandomShape {
  const fitBytes = isSoftware ? 256e6 : 1.2e9;
  const layers = Math.max(1, Math.min(shape.layers, Math.floor(fitBytes / getLayerBytes(shape))));
  return { ...shape, layers, vocabSize: isSoftware ? Math.min(shape.vocabSize, 4096) : shape.vocabSize };
}

/** Tokens of a prompt that shows a shape's speed: a CPU takes a second for each of a layer of these widths. */
export function getPromptTokens({ isSoftware }: { readonly isSoftware: boolean }): number {
  return isSoftware ? 32 : 128;
}
