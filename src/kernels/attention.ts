/** Causal attention over the KV cache: twin of shaders/attention.wgsl. */

import source from '../../shaders/attention.wgsl?raw';
import type { AttentionConfig } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import type { KvType } from './kv-type';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

export interface AttentionSpec {
  readonly attention: AttentionConfig;
  /** Whether the layer sees its window only. */
  readonly slides: boolean;
  /** Positions that the cache holds. */
  readonly cacheLength: number;
  readonly kvType: KvType;
}

export interface AttentionBuffers {
  readonly moeLayer: BindingResource; // u32: the MoE layer at or behind it
  readonly step: BindingResource; // {rows, position}
  readonly qkv: BindingResource; // [rows, (heads + 2 kvHeads) * headDim] f32; of latent attention queries alone, [rows, heads * headDim]
  readonly kCache: BindingResource; // [kvHeads, cacheLength] rows of headDim values as `kvType` has them
  readonly vCache: BindingResource; // likewise; of latent attention the same buffer
  readonly out: BindingResource; // [rows, heads * value width] f32; row by row with spans `getSpansWords` a row
  readonly control: BindingResource;
  readonly sinks: BindingResource; // [heads] f32; unread without
}

const UNLIMITED = 0xffffffff;

/** Values of v that attention reads, and leaves of each head. */
export function getValueDim({ headDim, latent }: AttentionConfig): number {
  return latent?.rank ?? headDim;
}

/** Words of a row that is left span by span. */
export function getSpansWords(attention: AttentionConfig, spans: number): number {
  return attention.heads * spans * (getValueDim(attention) + 4);
}

/** Constants of a kernel that reads such rows, `openHeads` of their heads in a workgroup. */
export function getSpansConstants(
  attention: AttentionConfig,
  spans: number,
  openHeads: number,
): Readonly<Record<string, number>> {
  return { SPANS: spans, HEADS: attention.heads, VALUE_DIM: getValueDim(attention), OPEN_HEADS: openHeads };
}

export interface Attention {
  bind(buffers: AttentionBuffers): Command;
}

/** Constants of every form of attention. */
export function getAttentionConstants({ attention, slides, cacheLength }: AttentionSpec): Record<string, number> {
  const { heads, kvHeads, headDim, scale, window, hasSinks, latent } = attention;
  return {
    HEADS: heads,
    KV_HEADS: kvHeads,
    HEAD_DIM: headDim,
    VALUE_DIM: getValueDim(attention),
    Q_STRIDE: (latent ? heads : heads + 2 * kvHeads) * headDim,
    CACHE_LENGTH: cacheLength,
    SCALE: scale,
    WINDOW: slides && window !== null ? window : UNLIMITED,
    RING: slides ? 1 : 0,
    SINKS: hasSinks ? 1 : 0,
  };
}

export async function compileAttention(device: GpuDevice, variant: Variant, spec: AttentionSpec): Promise<Attention> {
  const program = await compileProgram(device, {
    name: 'attention',
    source: getProgramSource(source, variant, undefined, [`kv_${spec.kvType}`, 'kv_read']),
    bindings: ['uniform', 'uniform', 'read', 'read', 'read', 'write', 'read', 'read'],
    constants: {
      WORKGROUP_SIZE: variant.workgroupSize,
      CHUNK: variant.attentionChunk,
      SPANS: variant.attentionSpans,
      ...getAttentionConstants(spec),
    },
  });
  return {
    bind({ moeLayer, step, qkv, kCache, vCache, out, control, sinks }) {
      const group = program.bind([moeLayer, step, qkv, kCache, vCache, out, control, sinks]);
      const { attentionSpans: spans } = variant;
      return (submission, rows) => submission.dispatch(program.pipeline, group, spec.attention.heads, rows, spans);
    },
  };
}
