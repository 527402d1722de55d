/** Tells one state of the tuned kernels from another, so that what was tried of one is not believed of the next. Pure. */
import expertDown from '../../shaders/expert_down.wgsl?raw';
import expertDownTiled from '../../shaders/expert_down_tiled.wgsl?raw';
import expertGateUp from '../../shaders/expert_gate_up.wgsl?raw';
import expertGateUpTiled from '../../shaders/expert_gate_up_tiled.wgsl?raw';
import headMatvec from '../../shaders/head_matvec.wgsl?raw';
import matmul from '../../shaders/matmul.wgsl?raw';
import matvec from '../../shaders/matvec.wgsl?raw';
import mlpGateUp from '../../shaders/mlp_gate_up.wgsl?raw';
import type { WeightType } from '../checkpoint/model-config';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

const KERNELS = [matvec, headMatvec, mlpGateUp, expertGateUp, expertDown, matmul, expertGateUpTiled, expertDownTiled];

/** A digest of all that is compiled of them for these types of weights: it need not withstand anybody. */
export function getSourcesDigest(variant: Variant, types: Iterable<WeightType>): string {
  const sources = [...new Set(types)].map((type) =>
    getProgramSource(KERNELS.join('\n'), variant, type, ['activation', 'expert_pool', 'tile', 'x_plain', 'x_spans']),
  );
  return getDigest(sources.join('\n'));
}

/** FNV-1a of 32 bits, in hexadecimal. */
export function getDigest(text: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, '0');
}
