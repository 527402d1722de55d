/** Norm, router, choice of experts and page-table test: twin of shaders/router_topk.wgsl. */

import source from '../../shaders/router_topk.wgsl?raw';
import { hasVariableCount, type MoeConfig, type NormConfig, type RouterInput } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { type BindingResource, compileProgram } from '../gpu/program';
import type { Command } from './command';
import { getProgramSource } from './program-source';
import type { Variant } from './variant';

export interface RouterTopkSpec {
  readonly moe: MoeConfig;
  readonly hiddenSize: number;
  readonly norm: NormConfig;
  /** Rows of one half of residual and x. */
  readonly rowsCapacity: number;
  /** Default `norm`. */
  readonly input?: RouterInput;
}

export interface RouterTopkBuffers {
  readonly moeLayer: BindingResource; // u32
  readonly step: BindingResource; // {rows, position}
  /** Norm weights (of a LayerNorm biases too), then the router, its bias, the choice's and the scores' norm; see the shader. */
  readonly gate: BindingResource; // [1 or 2, hiddenSize], [experts and null experts, hiddenSize or stateWidth] f32, and [experts] each
  readonly residual: BindingResource; // [2, rowsCapacity, hiddenSize] f32: exact, shadow
  readonly pageTable: BindingResource; // [moeLayers, experts] u32
  readonly control: BindingResource;
  readonly x: BindingResource; // [2, rowsCapacity, hiddenSize] f32: the experts' input
  readonly routeIds: BindingResource; // [moeLayers, rows, expertsPerToken] u32
  readonly routeWeights: BindingResource; // [moeLayers, rows, expertsPerToken] f32
  readonly states: BindingResource; // [moeLayers, rows, stateWidth] f32; unread where there is none
}

const INPUT = { norm: 0, 'normed-stream': 1, stream: 2 } as const;

const SCORING = { softmax: 0, sigmoid: 1, sparsemixer: 2, relu: 3 } as const;

/** Route id where a token has chosen fewer experts than it may; see shaders/lib/control.wgsl. */
export const NO_EXPERT = 0xffffffff;

/** The experts among route ids. */
export function listChosen(ids: Uint32Array): Uint32Array {
  return ids.includes(NO_EXPERT) ? ids.filter((id) => id !== NO_EXPERT) : ids;
}

export interface RouterTopk {
  bind(buffers: RouterTopkBuffers): Command;
}

export async function compileRouterTopk(
  device: GpuDevice,
  variant: Variant,
  spec: RouterTopkSpec,
): Promise<RouterTopk> {
  const { router } = spec.moe;
  const { groups } = router;
  const scored = router.scoring === 'sigmoid' || router.choiceBias || groups !== null;
  const program = await compileProgram(device, {
    name: 'router_topk',
    source: getProgramSource(source, variant, undefined, ['norm_row']),
    bindings: ['uniform', 'uniform', 'read', 'write', 'read', 'write', 'write', 'write', 'write', 'read'],
    constants: {
      WORKGROUP_SIZE: variant.workgroupSize,
      HIDDEN: spec.hiddenSize,
      EXPERTS: spec.moe.experts,
      CANDIDATES: spec.moe.experts + router.nullExperts,
      TOP_K: spec.moe.expertsPerToken,
      EPSILON: spec.norm.epsilon,
      LAYER_NORM: spec.norm.kind === 'layer' ? 1 : 0,
      SCORING: SCORING[router.scoring],
      LOGIT_BIAS: router.logitBias ? 1 : 0,
      CHOICE_BIAS: router.choiceBias ? 1 : 0,
      SCORED: scored ? 1 : 0,
      GROUPS: groups?.count ?? 1,
      GROUPS_USED: groups?.used ?? 1,
      GROUP_TWO: groups?.rank === 'two-best' ? 1 : 0,
      NORMALIZE: router.normalize ? 1 : 0,
      SUM_EPSILON: router.sumEpsilon,
      SUM_FLOOR: router.sumFloor,
      WEIGHT_SCALE: router.scale,
      JITTER: router.jitter,
      SCORE_NORM: router.scoreNorm === null ? 0 : 1,
      SCORE_EPSILON: router.scoreNorm ?? 0,
      VARIABLE: hasVariableCount(router) ? 1 : 0,
      TOP_P: router.topP ?? 0,
      STATE: router.stateWidth ?? 0,
      INPUT: INPUT[spec.input ?? 'norm'],
      CAPACITY: spec.rowsCapacity,
    },
  });
  return {
    bind({ moeLayer, step, gate, residual, pageTable, control, x, routeIds, routeWeights, states }) {
      const resources = [moeLayer, step, gate, residual, pageTable, control, x, routeIds, routeWeights, states];
      const group = program.bind(resources);
      return (submission, rows) => submission.dispatch(program.pipeline, group, rows);
    },
  };
}
