/** Parts of a ModelConfig where nothing is special, for tests that look at one thing. */
import { type AttentionConfig, type MoeConfig, plainRouter } from '../src/checkpoint/model-config';

type Heads = Pick<AttentionConfig, 'heads' | 'kvHeads' | 'headDim'>;

export function createAttention(own: Heads & Partial<AttentionConfig>): AttentionConfig {
  return {
    scale: 1 / Math.sqrt(own.headDim),
    qkNorm: 'none',
    rope: { theta: 1e4, dims: own.headDim, pairing: 'half', scaling: null },
    clipQkv: null,
    window: null,
    qkvBias: false,
    outputBias: false,
    hasSinks: false,
    latent: null,
    ...own,
  };
}

type Experts = Pick<MoeConfig, 'experts' | 'expertsPerToken' | 'expertWidth'>;

export function createMoe(own: Experts & Partial<MoeConfig>): MoeConfig {
  return {
    rounds: null,
    layersPerGroup: 1,
    router: plainRouter,
    activation: { kind: 'silu' },
    isGated: true,
    hasFactor: false,
    expertBias: false,
    shared: null,
    ...own,
  };
}
