/** Down projection of many rows by experts, kept apart by rank: twin of shaders/expert_down_tiled.wgsl. */

import source from '../../shaders/expert_down_tiled.wgsl?raw';
import type { GpuDevice } from '../gpu/device';
import type { BindingResource } from '../gpu/program';
import type { Command } from './command';
import type { ExpertDownSpec } from './expert-down';
import { getMostTiles } from './route-order';
import { compileTileProgram, getTileLanes } from './tile-program';
import type { Variant } from './variant';

export interface ExpertDownTiledBuffers {
  /** {MoE layer, first slot, slots, page quads, and the bases of gate, up, down and their biases}: u32 each. */
  readonly pool: BindingResource;
  readonly weights: BindingResource; // [slots] pages
  readonly act: BindingResource; // [rows, expertsPerToken, expertWidth] f32
  readonly order: BindingResource; // [rows * expertsPerToken] u32
  readonly tiles: BindingResource; // {expert, first, count} each
  readonly pageTable: BindingResource; // [moeLayers, experts] u32
  readonly outputs: BindingResource; // [rows, expertsPerToken, hiddenSize] f32
}

export interface ExpertDownTiled {
  bind(buffers: ExpertDownTiledBuffers): Command;
}

export async function compileExpertDownTiled(
  device: GpuDevice,
  variant: Variant,
  spec: ExpertDownSpec,
): Promise<ExpertDownTiled> {
  const { moe } = spec;
  const program = await compileTileProgram(device, variant, {
    name: 'expert_down_tiled',
    source,
    type: spec.type,
    snippets: ['expert_pool'],
    bindings: ['uniform', 'read', 'read', 'read', 'read', 'read', 'write'],
    constants: {
      EXPERTS: moe.experts,
      HIDDEN: spec.hiddenSize,
      WIDTH: moe.expertWidth,
      BIAS: moe.expertBias ? 1 : 0,
    },
  });
  const groups = Math.ceil(spec.hiddenSize / (4 * getTileLanes(variant)));
  return {
    bind({ pool, weights, act, order, tiles, pageTable, outputs }) {
      const group = program.bind([pool, weights, act, order, tiles, pageTable, outputs]);
      return (submission, rows) => submission.dispatch(program.pipeline, group, groups, getMostTiles(moe, rows));
    },
  };
}
