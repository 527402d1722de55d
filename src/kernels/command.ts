/** A kernel bound to its buffers: what a forward pass is a list of. */
import type { Submission } from '../gpu/pass';

/** Records one dispatch over `rows` tokens. */
export type Command = (submission: Submission, rows: number) => void;

/** A command that is bound when it is first recorded, for a kernel that is compiled late. */
export function bindLate(bind: () => Command): Command {
  let command: Command | undefined;
  return (submission, rows) => {
    command ??= bind();
    command(submission, rows);
  };
}

/** Most workgroups in one dimension of a dispatch: what every WebGPU has. */
const MOST_GROUPS = 65_535;

/** So many workgroups over two dimensions, as evenly as it goes: a few at the end may have nothing to do. */
export function foldGrid(groups: number): [y: number, z: number] {
  const z = Math.ceil(groups / MOST_GROUPS);
  return [Math.ceil(groups / z), z];
}

/** A largest finite f32, for parameters that mean "no limit". */
export const LARGEST_F32 = 3.4028234663852886e38;
