/** Gate and up projection of many rows by experts, with their activation: twin of shaders/expert_gate_up_tiled.wgsl. */

import source from '../../shaders/expert_gate_up_tiled.wgsl?raw';
import type { GpuDevice } from '../gpu/device';
import type { BindingResource } from '../gpu/program';
import type { Command } from './command';
import { type ExpertGateUpSpec, getActivationConstants, getProductConstants } from './expert-gate-up';
import { getMostTiles } from './route-order';
import { compileTileProgram, getTileLanes } from './tile-program';
import type { Variant } from './variant';

export interface ExpertGateUpTiledBuffers {
  /** {MoE layer, first slot, slots, page quads, and the bases of gate, up, down and their biases}: u32 each. */
  readonly pool: BindingResource;
  readonly weights: BindingResource; // [slots] pages
  readonly x: BindingResource; // [rows, hiddenSize] f32
  readonly order: BindingResource; // [rows * expertsPerToken] u32
  readonly tiles: BindingResource; // {expert, first, count} each
  readonly pageTable: BindingResource; // [moeLayers, experts] u32
  readonly act: BindingResource; // [rows, expertsPerToken, expertWidth] f32
}

export interface ExpertGateUpTiled {
  bind(buffers: ExpertGateUpTiledBuffers): Command;
}

export async function compileExpertGateUpTiled(
  device: GpuDevice,
  variant: Variant,
  spec: Omit<ExpertGateUpSpec, 'rowsCapacity'>,
): Promise<ExpertGateUpTiled> {
  const { moe } = spec;
  const program = await compileTileProgram(device, variant, {
    name: 'expert_gate_up_tiled',
    source,
    type: spec.type,
    snippets: ['expert_pool', 'activation'],
    bindings: ['uniform', 'read', 'read', 'read', 'read', 'read', 'write'],
    constants: {
      EXPERTS: moe.experts,
      TOP_K: moe.expertsPerToken,
      HIDDEN: spec.hiddenSize,
      WIDTH: moe.expertWidth,
      ...getProductConstants(moe, spec.isFactor ?? false),
      ...getActivationConstants(moe.activation),
    },
  });
  const groups = Math.ceil(moe.expertWidth / (4 * getTileLanes(variant)));
  return {
    bind({ pool, weights, x, order, tiles, pageTable, act }) {
      const group = program.bind([pool, weights, x, order, tiles, pageTable, act]);
      return (submission, rows) => submission.dispatch(program.pipeline, group, groups, getMostTiles(moe, rows), 2);
    },
  };
}
