/** Matrix times the rows of a pass, weights quantised in place: twin of shaders/matvec.wgsl. */

import source from '../../shaders/matvec.wgsl?raw';
import type { AttentionConfig, WeightType } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import { getSpansConstants } from './attention';
import { type Command, foldGrid } from './command';
import { getProgramSource } from './program-source';
import { getRowConstants, type Variant } from './variant';

export interface MatvecSpec {
  readonly type: WeightType;
  /** Add to y instead of writing it. */
  readonly accumulate: boolean;
  readonly hasBias: boolean;
  /** Factor on the product, its bias included. */
  readonly scale: number;
  /** Where x is what this attention leaves span by span; else null. */
  readonly spansOf: AttentionConfig | null;
}

export interface MatvecBuffers {
  /** {rows, blocks per row, y offset, y stride, MoE layer at or behind it, shadow offset}: u32 each. */
  readonly shape: BindingResource;
  readonly weights: BindingResource; // [matrixRows, cols] in kernel layout
  readonly x: BindingResource; // [rows, cols] f32, or its spans
  readonly y: BindingResource; // [rows, y stride] f32
  readonly control: BindingResource;
  readonly bias: BindingResource; // [y stride] f32; unread without
}

/** As shadow offset: the product does not run behind a fault. */
export const NO_SHADOW = 0xffffffff;

export interface Matvec {
  /** @param matrixRows rows of the matrix, as in the shape. */
  bind(buffers: MatvecBuffers, matrixRows: number): Command;
}

export async function compileMatvec(device: GpuDevice, variant: Variant, spec: MatvecSpec): Promise<Matvec> {
  const program = await compileProgram(device, {
    name: 'matvec',
    source: getProgramSource(source, variant, spec.type, ['row_sums', spec.spansOf ? 'x_spans' : 'x_plain']),
    bindings: ['uniform', 'read', 'read', 'write', 'read', 'read'],
    constants: {
      ...getRowConstants(variant),
      ACCUMULATE: spec.accumulate ? 1 : 0,
      BIAS: spec.hasBias ? 1 : 0,
      SCALE: spec.scale,
      ...(spec.spansOf ? getSpansConstants(spec.spansOf, variant.attentionSpans, spec.spansOf.heads) : {}),
    },
  });
  return {
    bind({ shape, weights, x, y, control, bias }, matrixRows) {
      const group = program.bind([shape, weights, x, y, control, bias]);
      const tiles = Math.ceil(matrixRows / (4 * variant.tiles));
      return (submission, rows) => submission.dispatch(program.pipeline, group, rows, ...foldGrid(tiles));
    },
  };
}
