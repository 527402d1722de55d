/** Penalties, biases and a grammar's mask on one row of logits: twin of shaders/adjust_logits.wgsl. */

import source from '../../shaders/adjust_logits.wgsl?raw';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

export interface AdjustLogitsShape {
  readonly vocabSize: number;
  /** Most pairs of (id, delta). */
  readonly capacity: number;
}

export interface AdjustLogitsBuffers {
  readonly changes: BindingResource; // see getChangesWords
  readonly logits: BindingResource; // [vocabSize] f32
  readonly control: BindingResource;
}

export interface AdjustLogits {
  bind(buffers: AdjustLogitsBuffers): Command;
}

/** Word of `changes` at which the mask begins; the words before it hold two counts and the pairs. */
export function getMaskWord(capacity: number): number {
  return 2 + 2 * capacity;
}

/** Words of `changes`. */
export function getChangesWords({ vocabSize, capacity }: AdjustLogitsShape): number {
  return getMaskWord(capacity) + Math.ceil(vocabSize / 32);
}

export async function compileAdjustLogits(
  device: GpuDevice,
  variant: Variant,
  { vocabSize, capacity }: AdjustLogitsShape,
): Promise<AdjustLogits> {
  const program = await compileProgram(device, {
    name: 'adjust_logits',
    source: getProgramSource(source, variant),
    bindings: ['read', 'write', 'write'],
    constants: { WORKGROUP_SIZE: variant.workgroupSize, VOCAB: vocabSize, CAPACITY: capacity },
  });
  const groups = Math.ceil(Math.ceil(vocabSize / 32) / variant.workgroupSize);
  return {
    bind({ changes, logits, control }) {
      const group = program.bind([changes, logits, control]);
      return (submission) => submission.dispatch(program.pipeline, group, groups);
    },
  };
}
