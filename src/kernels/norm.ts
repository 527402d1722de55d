/** Norm of the residual stream alone: twin of shaders/norm.wgsl. */

import source from '../../shaders/norm.wgsl?raw';
import type { NormConfig } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

export interface NormSpec {
  readonly hiddenSize: number;
  readonly norm: NormConfig;
  /** Rows of one half of residual. */
  readonly rowsCapacity: number;
}

export interface NormBuffers {
  /** {MoE layer at or behind it, values between x's exact and shadow half}: u32 each. */
  readonly place: BindingResource;
  readonly residual: BindingResource; // [2, rowsCapacity, hiddenSize] f32: exact, shadow
  readonly norm: BindingResource; // [1 or 2, hiddenSize] f32
  readonly x: BindingResource; // [rows, hiddenSize] f32, with or without a shadow half
  readonly control: BindingResource;
}

export interface Norm {
  bind(buffers: NormBuffers): Command;
}

export async function compileNorm(device: GpuDevice, variant: Variant, spec: NormSpec): Promise<Norm> {
  const program = await compileProgram(device, {
    name: 'norm',
    source: getProgramSource(source, variant, undefined, ['norm_row']),
    bindings: ['uniform', 'read', 'read', 'write', 'read'],
    constants: {
      WORKGROUP_SIZE: variant.workgroupSize,
      HIDDEN: spec.hiddenSize,
      EPSILON: spec.norm.epsilon,
      LAYER_NORM: spec.norm.kind === 'layer' ? 1 : 0,
      CAPACITY: spec.rowsCapacity,
    },
  });
  return {
    bind({ place, residual, norm, x, control }) {
      const group = program.bind([place, residual, norm, x, control]);
      return (submission, rows) => submission.dispatch(program.pipeline, group, rows);
    },
  };
}
