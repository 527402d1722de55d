/** Gate and up projection of the chosen experts, with their activation: twin of shaders/expert_gate_up.wgsl. */

import source from '../../shaders/expert_gate_up.wgsl?raw';
import type { Activation, MoeConfig, WeightType } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import { type Command, LARGEST_F32 } from './command';
import { getProgramSource } from './program-source';
import { getRowConstants, type Variant } from './variant';

export interface ExpertGateUpSpec {
  readonly type: WeightType;
  /** Whether it is the third product, which multiplies what the others have made. */
  readonly isFactor?: boolean;
  readonly moe: MoeConfig;
  readonly hiddenSize: number;
  /** Rows of one half of x. */
  readonly rowsCapacity: number;
}

export interface ExpertGateUpBuffers {
  /** {MoE layer, first slot, slots, page quads, and the bases of gate, up, down and their biases}: u32 each. */
  readonly pool: BindingResource;
  readonly step: BindingResource; // {rows, position}
  readonly weights: BindingResource; // [slots] pages
  readonly x: BindingResource; // [2, rowsCapacity, hiddenSize] f32: exact, shadow
  readonly routeIds: BindingResource; // [moeLayers, rows, expertsPerToken] u32
  readonly pageTable: BindingResource; // [moeLayers, experts] u32
  readonly act: BindingResource; // [rows, expertsPerToken, expertWidth] f32
  readonly control: BindingResource;
}

export interface ExpertGateUp {
  bind(buffers: ExpertGateUpBuffers): Command;
}

/** Constants by which shaders of either form know an expert's products. */
export function getProductConstants(
  { isGated, expertBias }: MoeConfig,
  isFactor: boolean,
): Record<'BIAS' | 'GATED' | 'FACTOR', number> {
  return { BIAS: Number(expertBias && !isFactor), GATED: Number(isGated && !isFactor), FACTOR: Number(isFactor) };
}

/** Constants of shaders/lib/activation.wgsl. */
export function getActivationConstants(activation: Activation): Record<'ACTIVATION' | 'ALPHA' | 'LIMIT', number> {
  return activation.kind === 'clamped'
    ? { ACTIVATION: 1, ALPHA: activation.alpha, LIMIT: activation.limit }
    : { ACTIVATION: 0, ALPHA: 1, LIMIT: LARGEST_F32 };
}

export async function compileExpertGateUp(
  device: GpuDevice,
  variant: Variant,
  spec: ExpertGateUpSpec,
): Promise<ExpertGateUp> {
  const { experts, expertsPerToken, expertWidth, activation } = spec.moe;
  const program = await compileProgram(device, {
    name: 'expert_gate_up',
    source: getProgramSource(source, variant, spec.type, ['row_sums', 'expert_pool', 'activation']),
    bindings: ['uniform', 'uniform', 'read', 'read', 'read', 'read', 'write', 'read'],
    constants: {
      ...getRowConstants(variant),
      EXPERTS: experts,
      TOP_K: expertsPerToken,
      HIDDEN: spec.hiddenSize,
      WIDTH: expertWidth,
      CAPACITY: spec.rowsCapacity,
      ...getProductConstants(spec.moe, spec.isFactor ?? false),
      ...getActivationConstants(activation),
    },
  });
  const tiles = Math.ceil(expertWidth / (4 * variant.tiles));
  return {
    bind({ pool, step, weights, x, routeIds, pageTable, act, control }) {
      const group = program.bind([pool, step, weights, x, routeIds, pageTable, act, control]);
      return (submission, rows) => submission.dispatch(program.pipeline, group, expertsPerToken, rows, tiles);
    },
  };
}
