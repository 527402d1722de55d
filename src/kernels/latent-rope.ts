/** Norm of the latent, rotation of its key and of the queries, and the cache write: twin of shaders/latent_rope.wgsl. */

import source from '../../shaders/latent_rope.wgsl?raw';
import type { AttentionConfig, LatentConfig } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import type { KvType } from './kv-type';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

export interface LatentRopeSpec {
  readonly attention: Pick<AttentionConfig, 'heads' | 'rope'>;
  readonly latent: LatentConfig;
  /** Positions that the cache holds. */
  readonly cacheLength: number;
  readonly kvType: KvType;
}

export interface LatentRopeBuffers {
  readonly moeLayer: BindingResource; // u32: the MoE layer at or behind it
  readonly step: BindingResource; // {rows, position}
  readonly projections: BindingResource; // [rows, heads * (plainDim + rope dims) + rank + rope dims] f32
  readonly norm: BindingResource; // [rank] f32
  readonly rope: BindingResource; // [context, rope dims / 2] of (cos, sin) f32
  readonly cache: BindingResource; // [cacheLength] rows of rank + rope dims values as `kvType` has them
  readonly queries: BindingResource; // [rows, heads, rank + rope dims] f32; the last rope dims are written
  readonly control: BindingResource;
}

export interface LatentRope {
  bind(buffers: LatentRopeBuffers): Command;
}

export async function compileLatentRope(
  device: GpuDevice,
  variant: Variant,
  { attention, latent, cacheLength, kvType }: LatentRopeSpec,
): Promise<LatentRope> {
  const { heads, rope } = attention;
  const program = await compileProgram(device, {
    name: 'latent_rope',
    source: getProgramSource(source, variant, undefined, [`kv_${kvType}`]),
    bindings: ['uniform', 'uniform', 'read', 'read', 'read', 'write', 'write', 'read'],
    constants: {
      WORKGROUP_SIZE: variant.workgroupSize,
      HEADS: heads,
      RANK: latent.rank,
      NOPE: latent.plainDim,
      ROPE_DIMS: rope.dims,
      INTERLEAVED: rope.pairing === 'interleaved' ? 1 : 0,
      CACHE_LENGTH: cacheLength,
      EPSILON: latent.epsilon,
    },
  });
  return {
    bind({ moeLayer, step, projections, norm, rope, cache, queries, control }) {
      const group = program.bind([moeLayer, step, projections, norm, rope, cache, queries, control]);
      return (submission, rows) => submission.dispatch(program.pipeline, group, rows);
    },
  };
}
