/**
 * Which form the kernels take on an adapter: a pure function of its traits and of what the caller forces, never of what is
 * resident or of a budget. Forms differ in the order of sums, so one engine uses one form throughout.
 */
import { EngineError } from '../errors';
import type { DeviceTraits, SubgroupMatrix } from '../gpu/device';
import type { ForcedTuning } from './tuning';

/** What a caller may force; what is left out the adapter's traits decide. */
export interface KernelOptions {
  /** Whether workgroups add up by subgroup operations. Default: where the adapter's subgroups have one size. */
  readonly subgroups?: boolean | undefined;
  /**
   * Whether products with Q4_0 and Q8_0 weights round activations to 8 bits and use packed dot products, row by row (decoding,
   * short prompts). Lossy: docs/numerics.md has the error. Default false.
   */
  readonly packedDot?: boolean | undefined;
  /**
   * Whether these products round activations to halves instead and multiply in f16. Lossy likewise; not with `packedDot`.
   * Default false.
   */
  readonly f16?: boolean | undefined;
  /**
   * Whether products of prompts (tiles of tokens) round weights and activations to halves and use subgroup matrices, which are
   * experimental: Chromium and Dawn have them behind flags. Lossy: docs/numerics.md has the error. Default false.
   */
  readonly subgroupMatrix?: boolean | undefined;
  /**
   * Into how many spans the positions of a decoding row are cut at most, so that more than one workgroup has each head: 1 to 8.
   * Default 8, and 1 where the adapter runs on a CPU. The order of sums follows it.
   */
  readonly attentionSpans?: number | undefined;
  /** How work is spread over workgroups. Changes no bit of any result. */
  readonly tuning?: ForcedTuning | undefined;
  /**
   * When what is not forced of `tuning` is tried on the adapter, once for each and for the model's shapes: `idle` while no call
   * runs, for later loads; `load` before the load ends, for it too; or never. Only values that give the same bits are kept.
   * Default `idle`, and never where the adapter runs on a CPU.
   */
  readonly trial?: TrialTime | false | undefined;
}

/** When settings are tried out on the device: behind a load, or before it ends. */
export type TrialTime = 'idle' | 'load';

/** Most spans of a row: what buffers are made for, and what an adapter gets that is a GPU. */
export const MOST_ATTENTION_SPANS = 8;

export type Products = 'plain' | 'packed' | 'f16';

export interface Variant {
  /** Name for statistics: reduction, workgroup size, spans of attention above 1, and how products round. */
  readonly name: string;
  /** How a workgroup sums up: by subgroup operations, or by a tree in workgroup memory. */
  readonly reduce: 'subgroup' | 'workgroup';
  /** Invocations that share one sum. */
  readonly workgroupSize: number;
  /**
   * Tiles of four matrix rows that a workgroup makes, one after another or, where they are a multiple of four, four at a time for
   * one reading of the activations; does not touch results.
   */
  readonly tiles: number;
  /** Invocations of a workgroup that makes tiles (prefill), a multiple of 4; does not touch results. */
  readonly tileLanes: number;
  /** Positions that attention takes at a time. */
  readonly attentionChunk: number;
  /** Into how many workgroups a head's positions go at most, row by row; 1: what reads the result need not add them up. */
  readonly attentionSpans: number;
  /** What products row by row round activations to where the weights' type has such a form: nothing, bytes, halves. */
  readonly products: Products;
  /** What tiles multiply by, each workgroup of them one subgroup; null: no subgroup matrices. */
  readonly matrix: (SubgroupMatrix & { readonly lanes: number }) | null;
}

/** Tokens of half a tile: what the columns of subgroup matrices have to be. */
const MATRIX_COLUMNS = 8;

/** The largest that tiles can be made of. */
function chooseMatrix({ subgroupSize: lanes, hasF16, subgroupMatrices }: DeviceTraits): Variant['matrix'] {
  if (lanes === null || !hasF16) return null;
  const [largest] = subgroupMatrices
    .filter(({ rows, columns, depth }) => columns === MATRIX_COLUMNS && (4 * lanes) % rows === 0 && 32 % depth === 0)
    .toSorted((a, b) => b.rows * b.depth - a.rows * a.depth);
  return largest ? { ...largest, lanes } : null;
}

/**
 * The subgroup form needs a workgroup that is exactly one subgroup, so a size that is fixed; elsewhere the tree.
 * A software adapter runs few wide invocations: small workgroups with more work each
 * (docs/log.md, "matrix-vector forms on the software adapter").
 * @throws EngineError `UNSUPPORTED` where the adapter lacks what is forced, `BAD_ARGUMENT`
 */
export function chooseVariant(
  traits: DeviceTraits,
  {
    subgroups,
    packedDot = false,
    f16 = false,
    subgroupMatrix = false,
    attentionSpans = traits.isSoftware ? 1 : MOST_ATTENTION_SPANS,
    tuning = {},
  }: KernelOptions = {},
): Variant {
  if (!Number.isInteger(attentionSpans) || attentionSpans < 1 || attentionSpans > MOST_ATTENTION_SPANS) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `${attentionSpans} spans of attention (kernels.attentionSpans) are out of range: give 1 to ${MOST_ATTENTION_SPANS}, or leave ` +
        'the option out',
    );
  }
  if (subgroups && traits.subgroupSize === null) {
    throw new EngineError(
      'UNSUPPORTED',
      'subgroups are forced (kernels.subgroups), and this adapter has none of one fixed size, or was asked for no optional ' +
        'feature: leave the option out',
    );
  }
  if (packedDot && !traits.hasPackedDot) {
    throw new EngineError(
      'UNSUPPORTED',
      "packed dot products are forced (kernels.packedDot), and this browser's WGSL has no packed_4x8_integer_dot_product, or " +
        'was asked for no optional feature: leave the option out',
    );
  }
  if (f16 && !traits.hasF16) {
    throw new EngineError(
      'UNSUPPORTED',
      'f16 products are forced (kernels.f16), and this adapter has no shader-f16, or was asked for no optional feature: leave ' +
        'the option out',
    );
  }
  if (f16 && packedDot) {
    throw new EngineError(
      'BAD_ARGUMENT',
      'products are to round activations to bytes (kernels.packedDot) and to halves (kernels.f16): leave one of the two out',
    );
  }
  const matrix = subgroupMatrix ? chooseMatrix(traits) : null;
  if (subgroupMatrix && !matrix) {
    const listed = traits.subgroupMatrices.map(({ rows, columns, depth }) => `${rows}x${columns}x${depth}`).join(', ');
    throw new EngineError(
      'UNSUPPORTED',
      `subgroup matrices are forced (kernels.subgroupMatrix), which need shader-f16, subgroups of one fixed size and matrices ` +
        `of halves with ${MATRIX_COLUMNS} columns and sums in f32; this adapter lists ${listed || 'none'} ` +
        '(Chromium shows them only with --enable-unsafe-webgpu): leave the option out',
    );
  }
  if (matrix && (tuning.matmulLanes !== undefined || tuning.expertLanes !== undefined)) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `a tile of subgroup matrices (kernels.subgroupMatrix) has the ${matrix.lanes} lanes of one subgroup: leave ` +
        'kernels.tuning.matmulLanes and expertLanes out',
    );
  }
  const products = packedDot ? 'packed' : f16 ? 'f16' : 'plain';
  const subgroupSize = subgroups === false ? null : traits.subgroupSize;
  const reduce = subgroupSize === null ? 'workgroup' : 'subgroup';
  const workgroupSize = subgroupSize ?? (traits.isSoftware ? 4 : 64);
  return {
    name:
      `${reduce}-${workgroupSize}${attentionSpans > 1 ? `-split-${attentionSpans}` : ''}${products === 'plain' ? '' : `-${products}`}` +
      (matrix ? `-matrix-${matrix.rows}x${matrix.columns}x${matrix.depth}` : ''),
    reduce,
    workgroupSize,
    tiles: traits.isSoftware ? 8 : 1,
    tileLanes: traits.isSoftware ? 4 : 64,
    attentionChunk: Math.max(128, workgroupSize),
    attentionSpans,
    products,
    matrix,
  };
}

/** Constants by which products row by row know their workgroup, and shaders/lib/row_sums.wgsl how many tiles go at a time. */
export function getRowConstants({
  workgroupSize,
  tiles,
}: Variant): Record<'WORKGROUP_SIZE' | 'TILES' | 'SPAN', number> {
  return { WORKGROUP_SIZE: workgroupSize, TILES: tiles, SPAN: tiles % 4 === 0 ? 4 : 1 };
}
