/** Choices of a MoE layer sorted by expert and cut into tiles: twin of shaders/route_order.wgsl. */

import source from '../../shaders/route_order.wgsl?raw';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

/** Tokens of a tile; of shaders/lib/tile_list.wgsl. */
export const TILE_TOKENS = 16;
/** {expert, first, count} */
export const TILE_WORDS = 3;

export interface RouteOrderSpec {
  readonly experts: number;
  readonly expertsPerToken: number;
}

export interface RouteOrderBuffers {
  readonly moeLayer: BindingResource; // u32
  readonly step: BindingResource; // {rows, position}
  readonly routeIds: BindingResource; // [moeLayers, rows, expertsPerToken] u32
  readonly order: BindingResource; // [rows * expertsPerToken] u32
  readonly tiles: BindingResource; // [getMostTiles] of {expert, first, count}
}

export interface RouteOrder {
  bind(buffers: RouteOrderBuffers): Command;
}

/** Tiles that any routes of so many rows can need: full ones, and one that is not for every expert. */
export function getMostTiles({ experts, expertsPerToken }: RouteOrderSpec, rows: number): number {
  const choices = rows * expertsPerToken;
  return Math.floor(choices / TILE_TOKENS) + Math.min(choices, experts);
}

export async function compileRouteOrder(
  device: GpuDevice,
  variant: Variant,
  spec: RouteOrderSpec,
): Promise<RouteOrder> {
  const program = await compileProgram(device, {
    name: 'route_order',
    source: getProgramSource(source, variant, undefined, ['tile_list']),
    bindings: ['uniform', 'uniform', 'read', 'write', 'write'],
    constants: { WORKGROUP_SIZE: variant.tileLanes, EXPERTS: spec.experts, TOP_K: spec.expertsPerToken },
  });
  return {
    bind({ moeLayer, step, routeIds, order, tiles }) {
      const group = program.bind([moeLayer, step, routeIds, order, tiles]);
      return (submission) => submission.dispatch(program.pipeline, group, 1);
    },
  };
}
