/** CPU reference of shaders/expert_gate_up.wgsl for one row and one expert, in f64. */
import { matvec } from './matvec';

/** silu(G x) * (U x): gate and up [width, hidden], x [hidden]; result [width]. */
export function expertGateUp(gate: ArrayLike<number>, up: ArrayLike<number>, x: ArrayLike<number>): Float64Array {
  const width = gate.length / x.length;
  const g = matvec(gate, x, width, x.length);
  const u = matvec(up, x, width, x.length);
  return g.map((value, i) => (value / (1 + Math.exp(-value))) * u[i]!);
}
