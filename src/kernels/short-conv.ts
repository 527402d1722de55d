/** Gated short convolution over a row's last positions: twin of shaders/short_conv.wgsl. */

import source from '../../shaders/short_conv.wgsl?raw';
import type { ConvolutionConfig } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

export interface ShortConvSpec {
  readonly hiddenSize: number;
  readonly convolution: ConvolutionConfig;
  /** Positions that the cache holds: at least the rows of a pass and the taps before them. */
  readonly cacheLength: number;
}

export interface ShortConvBuffers {
  readonly moeLayer: BindingResource; // u32: the MoE layer at or behind it
  readonly step: BindingResource; // {rows, position}
  readonly projections: BindingResource; // [rows, 3 * hiddenSize] f32: B, C, x
  readonly taps: BindingResource; // [hiddenSize, taps] f32
  readonly bias: BindingResource; // [hiddenSize] f32; unread without
  readonly cache: BindingResource; // [cacheLength, hiddenSize] f32
  readonly out: BindingResource; // [rows, hiddenSize] f32
  readonly control: BindingResource;
}

export interface ShortConv {
  bind(buffers: ShortConvBuffers): Command;
}

export async function compileShortConv(
  device: GpuDevice,
  variant: Variant,
  { hiddenSize, convolution, cacheLength }: ShortConvSpec,
): Promise<ShortConv> {
  const program = await compileProgram(device, {
    name: 'short_conv',
    source: getProgramSource(source, variant),
    bindings: ['uniform', 'uniform', 'read', 'read', 'read', 'write', 'write', 'read'],
    constants: {
      WORKGROUP_SIZE: variant.workgroupSize,
      HIDDEN: hiddenSize,
      TAPS: convolution.taps,
      BIAS: convolution.hasBias ? 1 : 0,
      CACHE_LENGTH: cacheLength,
    },
  });
  const groups = Math.ceil(hiddenSize / variant.workgroupSize);
  return {
    bind({ moeLayer, step, projections, taps, bias, cache, out, control }) {
      const group = program.bind([moeLayer, step, projections, taps, bias, cache, out, control]);
      return (submission, rows) => submission.dispatch(program.pipeline, group, groups, rows);
    },
  };
}
