/**
 * Settings that only move work between invocations: they change no bit of any result. Owns their defaults, bounds and what a
 * trial tries; measures nothing.
 */
import { EngineError } from '../errors';

/** How the work of products is spread over workgroups. */
export interface Tuning {
  /** Tiles of four matrix rows that a workgroup of a product row by row makes, one after another: 1 to 64. */
  readonly rowTiles: number;
  /** The same, of an expert's products. */
  readonly expertTiles: number;
  /** Invocations of a workgroup of a product in tiles (prompts): a multiple of 4, at most what the adapter allows. */
  readonly matmulLanes: number;
  /** The same, of an expert's products. */
  readonly expertLanes: number;
}

/** One of the settings. */
export type TuningSetting = keyof Tuning;

/** What a caller forces; the rest is left to the defaults. */
export type ForcedTuning = { readonly [setting in TuningSetting]?: number | undefined };

export const TUNING_SETTINGS: readonly TuningSetting[] = ['rowTiles', 'expertTiles', 'matmulLanes', 'expertLanes'];

const MOST_TILES = 64;

/** What a form of the kernels has of it by itself; see `Variant`. */
interface TunedForm {
  readonly tiles: number;
  readonly tileLanes: number;
}

const isTiles = (setting: TuningSetting): boolean => setting === 'rowTiles' || setting === 'expertTiles';

/** What a form has by itself. */
function getDefaultTuning({ tiles, tileLanes }: TunedForm): Tuning {
  return { rowTiles: tiles, expertTiles: tiles, matmulLanes: tileLanes, expertLanes: tileLanes };
}

/** The form that the kernels of a setting are compiled in. */
export function tuneVariant<V extends TunedForm>(variant: V, setting: TuningSetting, value: number): V {
  return isTiles(setting) ? { ...variant, tiles: value } : { ...variant, tileLanes: value };
}

/** Whether an adapter can have a value of a setting. */
function isAllowed(setting: TuningSetting, value: number, mostLanes: number): boolean {
  if (!Number.isInteger(value) || value < 1) return false;
  return isTiles(setting) ? value <= MOST_TILES : value % 4 === 0 && value <= mostLanes;
}

/**
 * What a form has by itself, but for what a caller forces and, behind that, for what a trial kept.
 * @param mostLanes the adapter's `maxComputeInvocationsPerWorkgroup`.
 * @throws EngineError `BAD_ARGUMENT` where what is forced cannot be.
 */
export function chooseTuning(
  variant: TunedForm,
  forced: ForcedTuning,
  mostLanes: number,
  kept: ForcedTuning = {},
): Tuning {
  const tuning: Partial<Record<TuningSetting, number>> = {};
  for (const [setting, value] of Object.entries(forced)) {
    if (!(TUNING_SETTINGS as readonly string[]).includes(setting)) {
      throw new EngineError(
        'BAD_ARGUMENT',
        `kernels.tuning.${setting} is no setting: give ${TUNING_SETTINGS.join(', ')}`,
      );
    }
    if (value === undefined) continue;
    tuning[setting as TuningSetting] = value;
    if (isAllowed(setting as TuningSetting, value, mostLanes)) continue;
    const range = isTiles(setting as TuningSetting)
      ? `a whole number from 1 to ${MOST_TILES}`
      : `a multiple of 4 up to this adapter's ${mostLanes} invocations of a workgroup`;
    throw new EngineError(
      'BAD_ARGUMENT',
      `kernels.tuning.${setting} is ${value}: give ${range}, or leave the setting out`,
    );
  }
  // What lay in a store may be anything.
  const usable = TUNING_SETTINGS.filter((setting) => isAllowed(setting, kept[setting] ?? 0, mostLanes));
  const tried = Object.fromEntries(usable.map((setting) => [setting, kept[setting]]));
  return { ...getDefaultTuning(variant), ...tried, ...tuning };
}

/** For people: `rowTiles 1, …`. */
export function formatTuning(tuning: Tuning): string {
  return TUNING_SETTINGS.map((setting) => `${setting} ${tuning[setting]}`).join(', ');
}
/** What a trial compares with the defaults: half of each, twice and four times it, where the adapter can. */
export function listCandidates(variant: TunedForm, setting: TuningSetting, mostLanes: number): number[] {
  return [0.5, 2, 4]
    .map((factor) => getDefaultTuning(variant)[setting] * factor)
    .filter((value) => isAllowed(setting, value, mostLanes));
}
