/** Embedding lookup and the first layer's norm: twin of shaders/embed_norm.wgsl. */

import source from '../../shaders/embed_norm.wgsl?raw';
import type { NormConfig, WeightType } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

export interface EmbedNormSpec {
  readonly type: WeightType;
  readonly hiddenSize: number;
  readonly norm: NormConfig;
  /** Factor on the embedding. */
  readonly embeddingScale: number;
}

export interface EmbedNormBuffers {
  /** {first token, tokens} of the table part: u32 each. */
  readonly part: BindingResource;
  readonly weights: BindingResource; // [tokens, hiddenSize] in kernel layout
  readonly tokens: BindingResource; // [rows] u32
  readonly norm: BindingResource; // [1 or 2, hiddenSize] f32
  readonly residual: BindingResource; // [rows, hiddenSize] f32
  readonly x: BindingResource; // [rows, hiddenSize] f32
  readonly control: BindingResource; // see lib/control.wgsl
}

export interface EmbedNorm {
  bind(buffers: EmbedNormBuffers): Command;
}

export async function compileEmbedNorm(device: GpuDevice, variant: Variant, spec: EmbedNormSpec): Promise<EmbedNorm> {
  const program = await compileProgram(device, {
    name: 'embed_norm',
    source: getProgramSource(source, variant, spec.type, ['norm_row']),
    bindings: ['uniform', 'read', 'read', 'read', 'write', 'write', 'write'],
    constants: {
      WORKGROUP_SIZE: variant.workgroupSize,
      HIDDEN: spec.hiddenSize,
      EPSILON: spec.norm.epsilon,
      LAYER_NORM: spec.norm.kind === 'layer' ? 1 : 0,
      EMBEDDING_SCALE: spec.embeddingScale,
    },
  });
  return {
    bind({ part, weights, tokens, norm, residual, x, control }) {
      const group = program.bind([part, weights, tokens, norm, residual, x, control]);
      return (submission, rows) => submission.dispatch(program.pipeline, group, rows);
    },
  };
}
