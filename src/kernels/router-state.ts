/** State of a recurrent router: twin of shaders/router_state.wgsl. */

import source from '../../shaders/router_state.wgsl?raw';
import type { NormConfig } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

export interface RouterStateSpec {
  readonly hiddenSize: number;
  /** Values of the state; a multiple of 4. */
  readonly stateWidth: number;
  readonly norm: NormConfig;
  /** Rows of one half of residual and x. */
  readonly rowsCapacity: number;
}

export interface RouterStateBuffers {
  readonly moeLayer: BindingResource; // u32
  readonly step: BindingResource; // {rows, position}
  readonly input: BindingResource; // [1 or 2 + stateWidth, hiddenSize] f32
  readonly cell: BindingResource; // [6, stateWidth, stateWidth] and [6, stateWidth] f32
  readonly residual: BindingResource; // [2, rowsCapacity, hiddenSize] f32: exact, shadow
  readonly control: BindingResource;
  readonly x: BindingResource; // [2, rowsCapacity, hiddenSize] f32: the experts' input
  readonly states: BindingResource; // [moeLayers, rows, stateWidth] f32
}

export interface RouterState {
  bind(buffers: RouterStateBuffers): Command;
}

export async function compileRouterState(
  device: GpuDevice,
  variant: Variant,
  { hiddenSize, stateWidth, norm, rowsCapacity }: RouterStateSpec,
): Promise<RouterState> {
  const program = await compileProgram(device, {
    name: 'router_state',
    source: getProgramSource(source, variant, undefined, ['norm_row']),
    bindings: ['uniform', 'uniform', 'read', 'read', 'read', 'read', 'write', 'write'],
    constants: {
      WORKGROUP_SIZE: variant.workgroupSize,
      HIDDEN: hiddenSize,
      EPSILON: norm.epsilon,
      LAYER_NORM: norm.kind === 'layer' ? 1 : 0,
      CAPACITY: rowsCapacity,
      STATE: stateWidth,
      STATE_QUADS: stateWidth / 4,
    },
  });
  return {
    bind({ moeLayer, step, input, cell, residual, control, x, states }) {
      const group = program.bind([moeLayer, step, input, cell, residual, control, x, states]);
      return (submission, rows) => submission.dispatch(program.pipeline, group, rows);
    },
  };
}
