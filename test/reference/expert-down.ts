/** CPU reference of shaders/expert_down.wgsl for one row and one expert, in f64. */
import { matvec } from './matvec';

/** D act: down [hidden, width], act [width]; result [hidden]. */
export function expertDown(down: ArrayLike<number>, act: ArrayLike<number>): Float64Array {
  return matvec(down, act, down.length / act.length, act.length);
}
