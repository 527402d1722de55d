/**
 * What runs in MoE layer `LAYER`, by the fault word and RUN_AHEAD: the meaning of shaders/lib/control.wgsl, written out.
 * Shared by the tests of all kernels that a fault stops or sends into shadow.
 */
import { ENDED, NO_FAULT } from '../../src/model/run-state';

export const LAYERS = 4;
/** The layer under test: behind two layers that may have faulted, before one that may. */
export const LAYER = 2;

export type Mode = 'exact' | 'shadow' | 'dead';

export interface ModeCase {
  readonly fault: number;
  readonly runAhead: number;
  /** Everything from the previous layer's sum to this layer's router: qkv, rope, attention, o. */
  readonly attention: Mode;
  readonly router: Mode;
  /** This layer's experts and their sum. */
  readonly experts: Mode;
}

const LARGE = 0xffffffff;

/** [fault, run ahead, attention, router, experts] */
export const MODES: readonly ModeCase[] = (
  [
    // No fault, or one in a layer behind: the run-ahead depth is of no concern.
    [NO_FAULT, 0, 'exact', 'exact', 'exact'],
    [NO_FAULT, 1, 'exact', 'exact', 'exact'],
    [NO_FAULT, 3, 'exact', 'exact', 'exact'],
    [NO_FAULT, LARGE, 'exact', 'exact', 'exact'],
    [3, 0, 'exact', 'exact', 'exact'],
    [3, LARGE, 'exact', 'exact', 'exact'],
    // This layer's router raised the fault: its own experts are the first shadow step.
    [2, 0, 'exact', 'exact', 'dead'],
    [2, 1, 'exact', 'exact', 'dead'],
    [2, 2, 'exact', 'exact', 'shadow'],
    [2, 3, 'exact', 'exact', 'shadow'],
    [2, LARGE, 'exact', 'exact', 'shadow'],
    // The layer before: one step brings its attention, two its experts too; a router needs none.
    [1, 0, 'dead', 'dead', 'dead'],
    [1, 1, 'dead', 'shadow', 'dead'],
    [1, 2, 'shadow', 'shadow', 'dead'],
    [1, 3, 'shadow', 'shadow', 'shadow'],
    [1, LARGE, 'shadow', 'shadow', 'shadow'],
    // Two layers before: everything a step later, but for the router.
    [0, 0, 'dead', 'dead', 'dead'],
    [0, 1, 'dead', 'shadow', 'dead'],
    [0, 2, 'dead', 'shadow', 'dead'],
    [0, 3, 'shadow', 'shadow', 'dead'],
    [0, 4, 'shadow', 'shadow', 'shadow'],
    [0, LARGE, 'shadow', 'shadow', 'shadow'],
    // A token before this one has faulted.
    [ENDED, 0, 'dead', 'dead', 'dead'],
    [ENDED, 1, 'dead', 'dead', 'dead'],
    [ENDED, LARGE, 'dead', 'dead', 'dead'],
  ] as const
).map(([fault, runAhead, attention, router, experts]) => ({ fault, runAhead, attention, router, experts }));

/** For messages. */
export function describeCase({ fault, runAhead }: ModeCase): string {
  return `fault ${fault === NO_FAULT ? 'none' : fault === ENDED ? 'of another token' : fault}, run ahead ${runAhead}`;
}
