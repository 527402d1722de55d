/** Greedy or seeded choice of a token from logits: twin of shaders/sample_token.wgsl. */

import source from '../../shaders/sample_token.wgsl?raw';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

export interface SampleTokenBuffers {
  /** {temperature f32, top k u32, top p f32, min log p f32, seed u32, position u32} */
  readonly sampling: BindingResource;
  readonly logits: BindingResource; // [rows, vocabSize] f32
  readonly control: BindingResource;
}

export interface SampleToken {
  bind(buffers: SampleTokenBuffers): Command;
}

export async function compileSampleToken(device: GpuDevice, variant: Variant, vocabSize: number): Promise<SampleToken> {
  const program = await compileProgram(device, {
    name: 'sample_token',
    source: getProgramSource(source, variant),
    bindings: ['uniform', 'read', 'write'],
    constants: { WORKGROUP_SIZE: variant.workgroupSize, VOCAB: vocabSize },
  });
  return {
    bind({ sampling, logits, control }) {
      const group = program.bind([sampling, logits, control]);
      return (submission, rows) => submission.dispatch(program.pipeline, group, rows);
    },
  };
}
