/** CPU reference of shaders/mlp_gate_up.wgsl for one row, in f64. */
import { expertGateUp } from './expert-gate-up';

/** silu(G x) * (U x), with a scale times sigmoid(scale . x): gateUp [2 width, hidden], x and scale [hidden]; result [width]. */
export function mlpGateUp(gateUp: Float32Array, x: ArrayLike<number>, scale: ArrayLike<number> | null): Float64Array {
  const half = gateUp.length / 2;
  const act = expertGateUp(gateUp.subarray(0, half), gateUp.subarray(half), x);
  if (!scale) return act;
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += scale[i]! * x[i]!;
  return act.map((value) => value / (1 + Math.exp(-sum)));
}
