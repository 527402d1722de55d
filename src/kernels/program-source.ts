/**
 * Puts a kernel's WGSL together: its own file plus the declared snippets it stands on.
 * Owns the choice of snippets; no text is changed, so what a file says is what runs.
 */

import control from '../../shaders/lib/control.wgsl?raw';
import reduceSubgroup from '../../shaders/lib/reduce_subgroup.wgsl?raw';
import reduceWorkgroup from '../../shaders/lib/reduce_workgroup.wgsl?raw';
import weightsBf16 from '../../shaders/lib/weights_bf16.wgsl?raw';
import weightsF16 from '../../shaders/lib/weights_f16.wgsl?raw';
import weightsF32 from '../../shaders/lib/weights_f32.wgsl?raw';
import weightsQ4_0 from '../../shaders/lib/weights_q4_0.wgsl?raw';
import weightsQ8_0 from '../../shaders/lib/weights_q8_0.wgsl?raw';
import type { WeightType } from '../checkpoint/model-config';
import type { Variant } from './variant';

const REDUCE = { subgroup: reduceSubgroup, workgroup: reduceWorkgroup } as const;

const WEIGHTS: Readonly<Record<WeightType, string>> = {
  f32: weightsF32,
  f16: weightsF16,
  bf16: weightsBf16,
  q4_0: weightsQ4_0,
  q8_0: weightsQ8_0,
};

/** Full source of a kernel; `weightType` where it reads quantised weights. */
export function getProgramSource(kernel: string, variant: Variant, weightType?: WeightType): string {
  return [
    variant.reduce === 'subgroup' ? 'enable subgroups;' : '',
    control,
    REDUCE[variant.reduce],
    weightType ? WEIGHTS[weightType] : '',
    kernel,
  ].join('\n');
}
