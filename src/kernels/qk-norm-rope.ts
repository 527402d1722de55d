/** Norm and rotation of queries and keys, and the KV write: twin of shaders/qk_norm_rope.wgsl. */

import source from '../../shaders/qk_norm_rope.wgsl?raw';
import type { AttentionConfig } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import { type Command, LARGEST_F32 } from './command';
import type { KvType } from './kv-type';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

export interface QkNormRopeSpec {
  readonly attention: AttentionConfig;
  /** Positions that the cache holds; a position behind them takes the place of the oldest. */
  readonly cacheLength: number;
  readonly kvType: KvType;
  readonly epsilon: number;
}

export interface QkNormRopeBuffers {
  readonly moeLayer: BindingResource; // u32: the MoE layer at or behind it
  readonly step: BindingResource; // {rows, position}
  readonly qkv: BindingResource; // [rows, (heads + 2 kvHeads) * headDim] f32; q and k are rewritten in place
  readonly norms: BindingResource; // [(heads + kvHeads) * headDim] f32, or [2 * headDim] where heads are normed one by one
  readonly rope: BindingResource; // [context, rope dims / 2] of (cos, sin) f32
  readonly kCache: BindingResource; // [kvHeads, cacheLength] rows of headDim values as `kvType` has them
  readonly vCache: BindingResource; // likewise
  readonly control: BindingResource;
}

const NORM = { none: 0, full: 1, head: 2, 'head-after-rope': 3 } as const;

export interface QkNormRope {
  bind(buffers: QkNormRopeBuffers): Command;
}

export async function compileQkNormRope(
  device: GpuDevice,
  variant: Variant,
  spec: QkNormRopeSpec,
): Promise<QkNormRope> {
  const { heads, kvHeads, headDim, qkNorm, clipQkv, rope } = spec.attention;
  const program = await compileProgram(device, {
    name: 'qk_norm_rope',
    source: getProgramSource(source, variant, undefined, [`kv_${spec.kvType}`]),
    bindings: ['uniform', 'uniform', 'write', 'read', 'read', 'write', 'write', 'read'],
    constants: {
      WORKGROUP_SIZE: variant.workgroupSize,
      HEADS: heads,
      KV_HEADS: kvHeads,
      HEAD_DIM: headDim,
      CACHE_LENGTH: spec.cacheLength,
      EPSILON: spec.epsilon,
      NORM: NORM[qkNorm],
      CLIP: clipQkv ?? LARGEST_F32,
      ROPE_DIMS: rope.dims,
      INTERLEAVED: rope.pairing === 'interleaved' ? 1 : 0,
    },
  });
  return {
    bind({ moeLayer, step, qkv, norms, rope, kCache, vCache, control }) {
      const group = program.bind([moeLayer, step, qkv, norms, rope, kCache, vCache, control]);
      return (submission, rows) => submission.dispatch(program.pipeline, group, rows);
    },
  };
}
