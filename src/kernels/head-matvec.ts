/** A matrix for every head times that head's part of a row: twin of shaders/head_matvec.wgsl. */

import source from '../../shaders/head_matvec.wgsl?raw';
import type { AttentionConfig, WeightType } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import { getSpansConstants } from './attention';
import type { Command } from './command';
import { getProgramSource } from './program-source';
import { getRowConstants, type Variant } from './variant';

export interface HeadMatvecSpec {
  readonly type: WeightType;
  /** Where x is what this attention leaves span by span; else null. */
  readonly spansOf: AttentionConfig | null;
}

export interface HeadMatvecBuffers {
  /**
   * {rows of a head's matrix, blocks per row, heads, quads between rows of x, between heads of x, values between rows of y,
   * between heads of y, MoE layer at or behind it}: u32 each.
   */
  readonly shape: BindingResource;
  readonly weights: BindingResource; // [heads, matrixRows, cols] in kernel layout
  readonly x: BindingResource; // f32: a part of every row, head by head; or its spans
  readonly y: BindingResource; // f32: likewise
  readonly control: BindingResource;
}

export interface HeadMatvec {
  /** @param matrixRows rows of a head's matrix, as in the shape. */
  bind(buffers: HeadMatvecBuffers, heads: number, matrixRows: number): Command;
}

export async function compileHeadMatvec(
  device: GpuDevice,
  variant: Variant,
  { type, spansOf }: HeadMatvecSpec,
): Promise<HeadMatvec> {
  const program = await compileProgram(device, {
    name: 'head_matvec',
    source: getProgramSource(source, variant, type, ['row_sums', spansOf ? 'x_spans' : 'x_plain']),
    bindings: ['uniform', 'read', 'read', 'write', 'read'],
    constants: {
      ...getRowConstants(variant),
      ...(spansOf ? getSpansConstants(spansOf, variant.attentionSpans, 1) : {}),
    },
  });
  return {
    bind({ shape, weights, x, y, control }, heads, matrixRows) {
      const group = program.bind([shape, weights, x, y, control]);
      const tiles = Math.ceil(matrixRows / (4 * variant.tiles));
      return (submission, rows) => submission.dispatch(program.pipeline, group, rows, tiles, heads);
    },
  };
}
