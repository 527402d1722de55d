/** Causal attention of many rows over the KV cache: twin of shaders/attention_tiled.wgsl. */

import source from '../../shaders/attention_tiled.wgsl?raw';
import type { GpuDevice } from '../gpu/device';
import { compileProgram } from '../gpu/program';
import { type AttentionBuffers, type AttentionSpec, getAttentionConstants } from './attention';
import type { Command } from './command';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

/** Rows of a head that an invocation has. */
const LANE_ROWS = 4;
/** Heads and rows make the parallelism here: small workgroups spread them. */
const MOST_LANES = 16;

export type AttentionTiledBuffers = Omit<AttentionBuffers, 'moeLayer' | 'control'>;

export interface AttentionTiled {
  bind(buffers: AttentionTiledBuffers): Command;
}

export async function compileAttentionTiled(
  device: GpuDevice,
  variant: Variant,
  spec: AttentionSpec,
): Promise<AttentionTiled> {
  const lanes = Math.min(MOST_LANES, variant.tileLanes);
  const program = await compileProgram(device, {
    name: 'attention_tiled',
    source: getProgramSource(source, variant, undefined, [`kv_${spec.kvType}`, 'kv_read', 'kv_four']),
    bindings: ['uniform', 'read', 'read', 'read', 'write', 'read'],
    constants: {
      WORKGROUP_SIZE: lanes,
      ...getAttentionConstants(spec),
    },
  });
  return {
    bind({ step, qkv, kCache, vCache, out, sinks }) {
      const group = program.bind([step, qkv, kCache, vCache, out, sinks]);
      return (submission, rows) =>
        submission.dispatch(program.pipeline, group, spec.attention.heads, Math.ceil(rows / (LANE_ROWS * lanes)));
    },
  };
}
