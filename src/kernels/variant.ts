/**
 * Which form the kernels take on an adapter: a pure function of its traits and of what the caller forces, never of what is
 * resident or of a budget. Forms differ in the order of sums, so one engine uses one form throughout.
 */
import { EngineError } from '../errors';
import type { DeviceTraits } from '../gpu/device';

/** What a caller may force; what is left out the adapter's traits decide. */
export interface KernelOptions {
  /** Whether workgroups add up by subgroup operations. Default: where the adapter's subgroups have one size. */
  readonly subgroups?: boolean | undefined;
}

export interface Variant {
  /** Name for statistics: reduction and workgroup size. */
  readonly name: string;
  /** How a workgroup sums up: by subgroup operations, or by a tree in workgroup memory. */
  readonly reduce: 'subgroup' | 'workgroup';
  /** Invocations that share one sum. */
  readonly workgroupSize: number;
  /** Tiles of four matrix rows that a workgroup makes, one after another; does not touch results. */
  readonly tiles: number;
  /** Invocations of a workgroup that makes tiles (prefill), a multiple of 4; does not touch results. */
  readonly tileLanes: number;
  /** Positions that attention takes at a time. */
  readonly attentionChunk: number;
}

/**
 * The subgroup form needs a workgroup that is exactly one subgroup, so a size that is fixed; elsewhere the tree.
 * A software adapter runs few wide invocations: small workgroups with more work each
 * (docs/log.md, "matrix-vector forms on the software adapter").
 * @throws EngineError `UNSUPPORTED` where the adapter lacks what is forced.
 */
export function chooseVariant(traits: DeviceTraits, { subgroups }: KernelOptions = {}): Variant {
  if (subgroups && traits.subgroupSize === null) {
    throw new EngineError(
      'UNSUPPORTED',
      'subgroups are forced (kernels.subgroups), and this adapter has none of one fixed size, or was asked for no optional ' +
        'feature: leave the option out',
    );
  }
  const subgroupSize = subgroups === false ? null : traits.subgroupSize;
  const reduce = subgroupSize === null ? 'workgroup' : 'subgroup';
  const workgroupSize = subgroupSize ?? (traits.isSoftware ? 4 : 64);
  return {
    name: `${reduce}-${workgroupSize}`,
    reduce,
    workgroupSize,
    tiles: traits.isSoftware ? 8 : 1,
    tileLanes: traits.isSoftware ? 4 : 64,
    attentionChunk: Math.max(128, workgroupSize),
  };
}
