/**
 * What the name of an architecture says and no key of a file does, and where a source keeps each tensor. Types only.
 */
import type { PagePart, ResidentRole } from './manifest';
import type { Activation, AttentionConfig, NormConfig, RopeConfig, RouterConfig } from './model-config';

/**
 * Gate and up projection as one tensor, gate first, and keys and values of latent attention, head by head: used where the two
 * are not there.
 */
export type TensorRole = ResidentRole | PagePart | 'gateUpProj' | 'kvUp';

/** Where a source keeps a tensor: its name, with `{i}` for the layer. */
export type TensorNames = Readonly<Record<TensorRole, string>>;

export interface ArchitectureTraits {
  /** `general.architecture`. */
  readonly name: string;
  readonly pairing: RopeConfig['pairing'];
  readonly norm?: NormConfig['kind'];
  /** Where a file has norms of q and k: what they are over. */
  readonly qkNorm?: AttentionConfig['qkNorm'];
  /** Where no key says otherwise. */
  readonly router?: Partial<RouterConfig>;
  readonly activation?: Activation;
  /** Which layers mix positions; default: all. */
  readonly hasMixer?: (layer: number) => boolean;
  /** Which layers slide, where a file has a window. */
  readonly slides?: (layer: number) => boolean;
  /** Whether the ends of YaRN's ramp are rounded to whole dimensions; default yes. */
  readonly truncatesYarn?: boolean;
  /** Whether a file's factor on cosines and sines is the whole of it, not one on YaRN's own. */
  readonly hasYarnMagnitude?: boolean;
  /** Tensors that are known, and not used. */
  readonly unused?: readonly string[];
  /** Names that differ. */
  readonly names?: Partial<TensorNames>;
}
