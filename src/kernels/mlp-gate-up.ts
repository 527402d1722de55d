/** Gate and up projection of a dense MLP or a shared expert, with SiLU: twin of shaders/mlp_gate_up.wgsl. */

import source from '../../shaders/mlp_gate_up.wgsl?raw';
import type { WeightType } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import { getProgramSource } from './program-source';
import { getRowConstants, type Variant } from './variant';

export interface MlpGateUpSpec {
  readonly type: WeightType;
  /** Whether the result is scaled by the sigmoid of a product of its own. */
  readonly isScaled: boolean;
  /** Whether it is the third product, which multiplies what the others have made. */
  readonly isFactor?: boolean;
  /** Rows of one half of x. */
  readonly rowsCapacity: number;
}

export interface MlpGateUpBuffers {
  /** {width, blocks per row, MoE layer at or behind it}: u32 each. */
  readonly shape: BindingResource;
  readonly weights: BindingResource; // [2 * width, hiddenSize] in kernel layout: gate, then up; or [width, hiddenSize]: the factor
  readonly x: BindingResource; // [2, rowsCapacity, hiddenSize] f32: exact, shadow
  readonly scale: BindingResource; // [hiddenSize] f32; unread without
  readonly act: BindingResource; // [rows, width] f32
  readonly control: BindingResource;
}

export interface MlpGateUp {
  bind(buffers: MlpGateUpBuffers, width: number): Command;
}

export async function compileMlpGateUp(device: GpuDevice, variant: Variant, spec: MlpGateUpSpec): Promise<MlpGateUp> {
  const program = await compileProgram(device, {
    name: 'mlp_gate_up',
    source: getProgramSource(source, variant, spec.type, ['row_sums']),
    bindings: ['uniform', 'read', 'read', 'read', 'write', 'read'],
    constants: {
      ...getRowConstants(variant),
      CAPACITY: spec.rowsCapacity,
      SCALED: spec.isScaled ? 1 : 0,
      FACTOR: spec.isFactor ? 1 : 0,
    },
  });
  return {
    bind({ shape, weights, x, scale, act, control }, width) {
      const group = program.bind([shape, weights, x, scale, act, control]);
      const tiles = Math.ceil(width / (4 * variant.tiles));
      return (submission, rows) => submission.dispatch(program.pipeline, group, rows, tiles);
    },
  };
}
