/**
 * What trials on this machine found, in a store: per adapter, form and shapes of a model. Owns its place and what is believed of
 * it; a store that refuses is told of and stops nothing.
 */
import type { ModelManifest } from '../checkpoint/manifest';
import type { GpuDevice } from '../gpu/device';
import { getDigest, getSourcesDigest } from '../kernels/tuned-sources';
import { type ForcedTuning, TUNING_SETTINGS, type TuningSetting } from '../kernels/tuning';
import type { Variant } from '../kernels/variant';
import { listMatrices, type WeightPlan } from '../model/weights';
import type { ModelStore } from '../store/model-store';
import type { TrialResult } from './kernel-trial';

/** As stores keep what belongs to no model. */
const STATE_ID = 'webmoe';

export interface TuningKey {
  readonly name: string;
  /** Of the kernels: a trial of others is as good as none. */
  readonly version: string;
}

interface KeptTrial {
  readonly version: string;
  readonly tuning: ForcedTuning;
  /** For people. */
  readonly timings: TrialResult['timings'];
}

/** Adapter, limits, form, and the shapes and types of the model's matrices. */
export function getTuningKey(
  { description, limits }: GpuDevice,
  variant: Variant,
  { config, pageLayouts }: ModelManifest,
  weights: WeightPlan,
): TuningKey {
  const pages = pageLayouts.flatMap(({ gateProj, upProj, downProj }) => [gateProj ?? [], upProj, downProj].flat());
  const matrices = [...listMatrices(weights), ...pages];
  const shapes = matrices.map(({ type, rows, cols }) => `${type} ${rows}x${cols}`);
  const { layers, moe } = config;
  const { maxComputeInvocationsPerWorkgroup: lanes, maxStorageBufferBindingSize: bytes } = limits;
  const model = [layers, moe.experts, moe.expertsPerToken, ...new Set(shapes)].join(',');
  return {
    name: `kernel-trial/${description}/${lanes}/${bytes}/${variant.name}/${getDigest(model)}`,
    version: getSourcesDigest(
      variant,
      matrices.map(({ type }) => type),
    ),
  };
}

export class TuningShelf {
  /** As the first read had it: a model that is loaded keeps its kernels, also on a new device. */
  readonly #found = new Map<string, ForcedTuning>();
  readonly #tried = new Set<string>();
  readonly #warnings: string[] = [];

  /** @param openStore the one that outlives a visit, if there is any. */
  constructor(private readonly openStore: () => Promise<ModelStore>) {}

  /** What was kept for a key; nothing where nothing can be read, which is told. */
  async read({ name, version }: TuningKey): Promise<ForcedTuning> {
    const found = this.#found.get(name);
    if (found) return found;
    let tuning: ForcedTuning = {};
    try {
      const store = await this.openStore();
      const kept = (await store.readState(STATE_ID, name)) as KeptTrial | undefined;
      if (kept?.version === version) tuning = kept.tuning;
    } catch (cause) {
      this.warn(`settings of the kernels that a trial found could not be read: ${(cause as Error).message}`);
    }
    this.#found.set(name, tuning);
    return tuning;
  }

  /** Keeps what a trial found for later loads, or with `isUsed` for this one too. */
  async write(key: TuningKey, before: ForcedTuning, result: TrialResult, isUsed: boolean): Promise<void> {
    const { name, version } = key;
    this.giveUp(key);
    const tuning = { ...before, ...result.tuning };
    if (isUsed) this.#found.set(name, tuning);
    for (const warning of result.warnings) this.warn(warning);
    if (Object.keys(result.tuning).length === 0) return;
    try {
      const kept: KeptTrial = { version, tuning, timings: result.timings };
      await (await this.openStore()).writeState(STATE_ID, name, kept);
    } catch (cause) {
      this.warn(`settings of the kernels that a trial found could not be kept: ${(cause as Error).message}`);
    }
  }

  /** No trial of it any more, of this load. */
  giveUp({ name }: TuningKey): void {
    this.#tried.add(name);
  }

  isTried({ name }: TuningKey): boolean {
    return this.#tried.has(name);
  }

  warn(message: string): void {
    this.#warnings.push(message);
  }

  takeWarnings(): string[] {
    return this.#warnings.splice(0);
  }
}

/** What is still to be tried: neither forced nor known, nor fixed as the lanes of subgroup matrices are. */
export function listDue({ matrix }: Variant, forced: ForcedTuning, kept: ForcedTuning): TuningSetting[] {
  return TUNING_SETTINGS.filter(
    (setting) =>
      forced[setting] === undefined && kept[setting] === undefined && !(matrix !== null && setting.endsWith('Lanes')),
  );
}
