/** CPU reference of shaders/expert_gate_up.wgsl for one row and one expert, in f64. */
import { matvec } from './matvec';

/**
 * silu(G x) * (U x): gate and up [width, hidden], x [hidden]; result [width]. Without an up: silu(G x). With biases: gpt-oss's
 * clamped form of it.
 */
export function expertGateUp(
  gate: ArrayLike<number>,
  up: ArrayLike<number> | null,
  x: ArrayLike<number>,
  clamped?: {
    readonly alpha: number;
    readonly limit: number;
    readonly gate: ArrayLike<number>;
    readonly up: ArrayLike<number>;
  },
): Float64Array {
  const width = gate.length / x.length;
  const g = matvec(gate, x, width, x.length);
  const u = up ? matvec(up, x, width, x.length) : new Float64Array(width).fill(1);
  if (clamped) {
    const { alpha, limit } = clamped;
    return g.map((value, i) => {
      const low = Math.min(value + clamped.gate[i]!, limit);
      const linear = Math.min(limit, Math.max(-limit, u[i]! + clamped.up[i]!));
      return ((linear + 1) * low) / (1 + Math.exp(-alpha * low));
    });
  }
  return g.map((value, i) => (value / (1 + Math.exp(-value))) * u[i]!);
}

/** act * (F x), the third product: factor [width, hidden], x [hidden], act and result [width]. */
export function expertFactor(factor: ArrayLike<number>, x: ArrayLike<number>, act: ArrayLike<number>): Float64Array {
  return matvec(factor, x, act.length, x.length).map((value, i) => value * act[i]!);
}
