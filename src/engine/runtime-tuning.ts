/**
 * Which settings of the kernels a runtime has: forced, found by an earlier trial, tried now, or the form's own. Owns when a trial
 * runs; never lets it fail a load.
 */
import { orAborted } from '../aborts';
import type { GpuDevice } from '../gpu/device';
import { chooseTuning, type ForcedTuning, TUNING_SETTINGS, type Tuning, type TuningSetting } from '../kernels/tuning';
import type { KernelOptions, TrialTime } from '../kernels/variant';
import { createCompileProgress } from '../model/compile-progress';
import { compileRowProducts, type ProductsModel } from '../model/product-kernels';
import { compileTileKernels, LateTileKernels } from '../model/tile-kernels';
import type { LoadProgress } from './engine';
import { listTrialCandidates, runTrial, type TrialTarget } from './kernel-trial';
import { getTuningKey, listDue, type TuningKey, type TuningShelf } from './tuning-shelf';

/** How settings came about. */
export interface ChosenTuning {
  readonly values: Tuning;
  readonly source: 'default' | 'options' | 'cache' | 'trial';
  /** What is left to try, and when; null where nothing is, or where nothing is to be tried. */
  readonly due: DueTrial | null;
}

interface DueTrial {
  readonly time: TrialTime;
  readonly settings: readonly TuningSetting[];
  readonly key: TuningKey;
  readonly kept: ForcedTuning;
  readonly shelf: TuningShelf;
}

/** @param shelf where trials are kept; without one none is run. */
export async function resolveTuning(
  { device, variant, manifest, weights }: ProductsModel,
  options: KernelOptions | undefined,
  shelf: TuningShelf | undefined,
): Promise<ChosenTuning> {
  const { tuning: forced = {}, trial: time = getDefaultTime(device) } = options ?? {};
  const mostLanes = device.limits.maxComputeInvocationsPerWorkgroup;
  const isForced = Object.values(forced).some((value) => value !== undefined);
  const own = chooseTuning(variant, forced, mostLanes);
  if (time === false || !shelf) return { values: own, source: isForced ? 'options' : 'default', due: null };
  const key = getTuningKey(device, variant, manifest, weights);
  const kept = await shelf.read(key);
  const settings = listDue(variant, forced, kept);
  const isUsed = TUNING_SETTINGS.some((setting) => kept[setting] !== undefined && forced[setting] === undefined);
  return {
    values: chooseTuning(variant, forced, mostLanes, kept),
    source: isUsed ? 'cache' : isForced ? 'options' : 'default',
    due: settings.length > 0 ? { time, settings, key, kept, shelf } : null,
  };
}

/** On a CPU a trial takes longer than it can win. */
function getDefaultTime({ traits }: GpuDevice): TrialTime | false {
  return traits.isSoftware ? false : 'idle';
}

/**
 * Tries what is due before the load ends.
 * @returns what was chosen and the passes that have it.
 */
export async function tryAtLoad(
  target: TrialTarget & { readonly tuning: ChosenTuning },
  onProgress: (progress: LoadProgress) => void,
  signal: AbortSignal | undefined,
): Promise<Pick<typeof target, 'tuning' | 'forward'>> {
  const { tuning, forward, device, variant, manifest, plan } = target;
  if (tuning.due?.time !== 'load') return { tuning, forward };
  const found = await tryDue(target, tuning.due, true, signal);
  for (const message of tuning.due.shelf.takeWarnings()) onProgress({ phase: 'warning', message });
  if (!found) return { tuning, forward };
  const values = { ...tuning.values, ...found };
  const model = { device, variant, manifest, weights: plan.weights, state: plan.state };
  const compiling = compileRowProducts(
    model,
    values,
    createCompileProgress(() => {}),
  );
  const products = await orAborted(compiling, signal);
  const tiles = new LateTileKernels(() => compileTileKernels(model, values));
  return {
    tuning: { values, source: 'trial', due: null },
    forward: forward.withKernels({ ...forward.kernels, ...products, tiles }),
  };
}

/** Tries what is due while no call runs: for later loads. What fails is told, and not tried again before the next load. */
export async function tryWhileIdle(
  target: TrialTarget & { readonly tuning: ChosenTuning },
  signal: AbortSignal,
): Promise<void> {
  const { due } = target.tuning;
  if (due?.time === 'idle' && !due.shelf.isTried(due.key)) await tryDue(target, due, false, signal);
}

async function tryDue(
  target: TrialTarget,
  { settings, key, kept, shelf }: DueTrial,
  isUsed: boolean,
  signal: AbortSignal | undefined,
): Promise<Partial<Tuning> | null> {
  try {
    const result = await runTrial(target, listTrialCandidates(target, settings), signal);
    if (!result) {
      // While idle it is tried again, when no call comes and every layer has an expert.
      if (isUsed && !signal?.aborted)
        shelf.warn(
          'settings of the kernels were not tried: a layer has no expert yet, load it again when they are there',
        );
      return null;
    }
    await shelf.write(key, kept, result, isUsed);
    return result.tuning;
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    shelf.giveUp(key);
    shelf.warn(`settings of the kernels could not be tried, the defaults stay: ${message}`);
    return null;
  }
}
