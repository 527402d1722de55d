/** Greedy or seeded choice of a token from logits: twin of shaders/sample_token.wgsl. */

import source from '../../shaders/sample_token.wgsl?raw';
import { EngineError } from '../errors';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

/** WebGPU's default limit on the invocations of a workgroup. */
const MOST_LANES = 256;

export interface SampleTokenBuffers {
  /** {temperature f32, top k u32, top p f32, min log p f32, seed u32, position u32} */
  readonly sampling: BindingResource;
  readonly logits: BindingResource; // [rows, vocabSize] f32
  readonly control: BindingResource;
}

export interface SampleToken {
  bind(buffers: SampleTokenBuffers): Command;
}

/** Sums of masses are 32-bit integers of limbs of 13 bits. */
const MOST_IDS = 2 ** 19 - 1;

/**
 * One workgroup looks through a row of logits ten times and more, so it is as wide as may be; a software adapter gains nothing by
 * that. Maxima and integer sums know no order, so the form changes no token.
 */
function getSampleVariant(variant: Variant): Variant {
  return variant.tileLanes > 4 ? { ...variant, reduce: 'workgroup', workgroupSize: MOST_LANES } : variant;
}

/** @throws EngineError `UNSUPPORTED` */
export async function compileSampleToken(device: GpuDevice, variant: Variant, vocabSize: number): Promise<SampleToken> {
  if (vocabSize > MOST_IDS) {
    throw new EngineError(
      'UNSUPPORTED',
      `the vocabulary has ${vocabSize} tokens, at most ${MOST_IDS} can be sampled from: use another model`,
    );
  }
  const own = getSampleVariant(variant);
  const digitBits = own === variant ? 4 : 8;
  const program = await compileProgram(device, {
    name: 'sample_token',
    source: getProgramSource(source, own),
    bindings: ['uniform', 'read', 'write'],
    constants: { WORKGROUP_SIZE: own.workgroupSize, VOCAB: vocabSize, DIGIT_BITS: digitBits },
  });
  return {
    bind({ sampling, logits, control }) {
      const group = program.bind([sampling, logits, control]);
      return (submission, rows) => submission.dispatch(program.pipeline, group, rows);
    },
  };
}
