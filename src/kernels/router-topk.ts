/** Norm, router, choice of experts and page-table test: twin of shaders/router_topk.wgsl. */

import source from '../../shaders/router_topk.wgsl?raw';
import type { MoeConfig } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

export interface RouterTopkSpec {
  readonly moe: MoeConfig;
  readonly hiddenSize: number;
  readonly epsilon: number;
  /** Rows of one half of residual and x. */
  readonly rowsCapacity: number;
}

export interface RouterTopkBuffers {
  readonly moeLayer: BindingResource; // u32
  readonly step: BindingResource; // {rows, position}
  readonly gate: BindingResource; // [1 + experts, hiddenSize] f32: norm weights, then the router
  readonly residual: BindingResource; // [2, rowsCapacity, hiddenSize] f32: exact, shadow
  readonly pageTable: BindingResource; // [moeLayers, experts] u32
  readonly control: BindingResource;
  readonly x: BindingResource; // [2, rowsCapacity, hiddenSize] f32: the experts' input
  readonly routeIds: BindingResource; // [moeLayers, rows, expertsPerToken] u32
  readonly routeWeights: BindingResource; // [moeLayers, rows, expertsPerToken] f32
}

export interface RouterTopk {
  bind(buffers: RouterTopkBuffers): Command;
}

export async function compileRouterTopk(
  device: GpuDevice,
  variant: Variant,
  spec: RouterTopkSpec,
): Promise<RouterTopk> {
  const program = await compileProgram(device, {
    name: 'router_topk',
    source: getProgramSource(source, variant),
    bindings: ['uniform', 'uniform', 'read', 'read', 'read', 'write', 'write', 'write', 'write'],
    constants: {
      WORKGROUP_SIZE: variant.workgroupSize,
      HIDDEN: spec.hiddenSize,
      EXPERTS: spec.moe.experts,
      TOP_K: spec.moe.expertsPerToken,
      EPSILON: spec.epsilon,
      NORMALIZE: spec.moe.normalizeTopK ? 1 : 0,
      CAPACITY: spec.rowsCapacity,
    },
  });
  return {
    bind({ moeLayer, step, gate, residual, pageTable, control, x, routeIds, routeWeights }) {
      const group = program.bind([moeLayer, step, gate, residual, pageTable, control, x, routeIds, routeWeights]);
      return (submission, rows) => submission.dispatch(program.pipeline, group, rows);
    },
  };
}
