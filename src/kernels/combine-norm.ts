/** Weighted sum of the experts' outputs, residual and the next norm: twin of shaders/combine_norm.wgsl. */

import source from '../../shaders/combine_norm.wgsl?raw';
import type { NormConfig } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

export interface CombineNormSpec {
  readonly hiddenSize: number;
  readonly expertsPerToken: number;
  /** Whether a token may have fewer experts; see shaders/router_topk.wgsl. */
  readonly isVariable: boolean;
  readonly norm: NormConfig;
  /** Factor on the experts' sum. */
  readonly residualScale: number;
  /** Rows of one half of residual. */
  readonly rowsCapacity: number;
}

export interface CombineNormBuffers {
  readonly moeLayer: BindingResource; // u32
  readonly step: BindingResource; // {rows, position}
  readonly outputs: BindingResource; // [rows, expertsPerToken, hiddenSize] f32
  readonly routeWeights: BindingResource; // [moeLayers, rows, expertsPerToken] f32
  readonly residual: BindingResource; // [2, rowsCapacity, hiddenSize] f32: exact, shadow
  readonly norm: BindingResource; // [1 or 2, hiddenSize] f32
  readonly x: BindingResource; // [rows, hiddenSize] f32
  readonly control: BindingResource;
}

export interface CombineNorm {
  bind(buffers: CombineNormBuffers): Command;
}

export async function compileCombineNorm(
  device: GpuDevice,
  variant: Variant,
  spec: CombineNormSpec,
): Promise<CombineNorm> {
  const program = await compileProgram(device, {
    name: 'combine_norm',
    source: getProgramSource(source, variant, undefined, ['norm_row']),
    bindings: ['uniform', 'uniform', 'read', 'read', 'write', 'read', 'write', 'write'],
    constants: {
      WORKGROUP_SIZE: variant.workgroupSize,
      HIDDEN: spec.hiddenSize,
      TOP_K: spec.expertsPerToken,
      EPSILON: spec.norm.epsilon,
      LAYER_NORM: spec.norm.kind === 'layer' ? 1 : 0,
      RESIDUAL_SCALE: spec.residualScale,
      VARIABLE: spec.isVariable ? 1 : 0,
      CAPACITY: spec.rowsCapacity,
    },
  });
  return {
    bind({ moeLayer, step, outputs, routeWeights, residual, norm, x, control }) {
      const group = program.bind([moeLayer, step, outputs, routeWeights, residual, norm, x, control]);
      return (submission, rows) => submission.dispatch(program.pipeline, group, rows);
    },
  };
}
