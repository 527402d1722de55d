/** Matrix times many tokens, weights dequantised once for a tile of them: twin of shaders/matmul.wgsl. */

import source from '../../shaders/matmul.wgsl?raw';
import type { WeightType } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import type { BindingResource } from '../gpu/program';
import type { Command } from './command';
import { TILE_TOKENS } from './route-order';
import { compileTileProgram, getTileLanes } from './tile-program';
import type { Variant } from './variant';

/** Matrix rows that an invocation makes. */
const LANE_ROWS = 4;

export interface MatmulBuffers {
  /**
   * As of matvec; then 1 where the tokens are those that get logits, 1 to add to y instead of writing it, 1 for a bias: u32
   * each; and the scale, f32.
   */
  readonly shape: BindingResource;
  readonly step: BindingResource; // {rows, position, logit rows}
  readonly weights: BindingResource; // [matrixRows, cols] in kernel layout
  readonly x: BindingResource; // [tokens, cols] f32
  readonly y: BindingResource; // [tokens, y stride] f32
  readonly bias: BindingResource; // [y stride] f32; unread without
}

export interface Matmul {
  /** @param matrixRows rows of the matrix, as in the shape. */
  bind(buffers: MatmulBuffers, matrixRows: number): Command;
}

export async function compileMatmul(device: GpuDevice, variant: Variant, type: WeightType): Promise<Matmul> {
  const program = await compileTileProgram(device, variant, {
    name: 'matmul',
    source,
    type,
    snippets: [],
    bindings: ['uniform', 'uniform', 'read', 'read', 'write', 'read'],
    constants: {},
  });
  return {
    bind({ shape, step, weights, x, y, bias }, matrixRows) {
      const group = program.bind([shape, step, weights, x, y, bias]);
      const groups = Math.ceil(matrixRows / (LANE_ROWS * getTileLanes(variant)));
      return (submission, tokens) =>
        submission.dispatch(program.pipeline, group, groups, Math.ceil(tokens / TILE_TOKENS));
    },
  };
}
