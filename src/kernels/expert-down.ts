/** Down projection of the chosen experts, kept apart by rank: twin of shaders/expert_down.wgsl. */

import source from '../../shaders/expert_down.wgsl?raw';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import type { ExpertGateUpSpec } from './expert-gate-up';
import { getProgramSource } from './program-source';
import { getRowConstants, type Variant } from './variant';

export type ExpertDownSpec = Omit<ExpertGateUpSpec, 'rowsCapacity'>;

export interface ExpertDownBuffers {
  /** {MoE layer, first slot, slots, page quads, and the bases of gate, up, down and their biases}: u32 each. */
  readonly pool: BindingResource;
  readonly step: BindingResource; // {rows, position}
  readonly weights: BindingResource; // [slots] pages
  readonly act: BindingResource; // [rows, expertsPerToken, expertWidth] f32
  readonly routeIds: BindingResource; // [moeLayers, rows, expertsPerToken] u32
  readonly pageTable: BindingResource; // [moeLayers, experts] u32
  readonly outputs: BindingResource; // [rows, expertsPerToken, hiddenSize] f32
  readonly control: BindingResource;
}

export interface ExpertDown {
  bind(buffers: ExpertDownBuffers): Command;
}

export async function compileExpertDown(
  device: GpuDevice,
  variant: Variant,
  spec: ExpertDownSpec,
): Promise<ExpertDown> {
  const { experts, expertsPerToken, expertWidth, expertBias } = spec.moe;
  const program = await compileProgram(device, {
    name: 'expert_down',
    source: getProgramSource(source, variant, spec.type, ['row_sums', 'expert_pool']),
    bindings: ['uniform', 'uniform', 'read', 'read', 'read', 'read', 'write', 'read'],
    constants: {
      ...getRowConstants(variant),
      EXPERTS: experts,
      TOP_K: expertsPerToken,
      HIDDEN: spec.hiddenSize,
      WIDTH: expertWidth,
      BIAS: expertBias ? 1 : 0,
    },
  });
  const tiles = Math.ceil(spec.hiddenSize / (4 * variant.tiles));
  return {
    bind({ pool, step, weights, act, routeIds, pageTable, outputs, control }) {
      const group = program.bind([pool, step, weights, act, routeIds, pageTable, outputs, control]);
      return (submission, rows) => submission.dispatch(program.pipeline, group, expertsPerToken, rows, tiles);
    },
  };
}
