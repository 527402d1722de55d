/**
 * Puts a kernel's WGSL together: its own file plus the declared snippets it stands on.
 * Owns the choice of snippets; no text is changed, so what a file says is what runs.
 */

import activation from '../../shaders/lib/activation.wgsl?raw';
import control from '../../shaders/lib/control.wgsl?raw';
import dotQ4_0 from '../../shaders/lib/dot_q4_0.wgsl?raw';
import dotQ4_0F16 from '../../shaders/lib/dot_q4_0_f16.wgsl?raw';
import dotQ4_0Packed from '../../shaders/lib/dot_q4_0_packed.wgsl?raw';
import dotQ8_0 from '../../shaders/lib/dot_q8_0.wgsl?raw';
import dotQ8_0F16 from '../../shaders/lib/dot_q8_0_f16.wgsl?raw';
import dotQ8_0Packed from '../../shaders/lib/dot_q8_0_packed.wgsl?raw';
import expertPool from '../../shaders/lib/expert_pool.wgsl?raw';
import kvF16 from '../../shaders/lib/kv_f16.wgsl?raw';
import kvF32 from '../../shaders/lib/kv_f32.wgsl?raw';
import kvPlain from '../../shaders/lib/kv_plain.wgsl?raw';
import kvQ8 from '../../shaders/lib/kv_q8.wgsl?raw';
import kvQuad from '../../shaders/lib/kv_quad.wgsl?raw';
import kvRead from '../../shaders/lib/kv_read.wgsl?raw';
import kvRows from '../../shaders/lib/kv_rows.wgsl?raw';
import multiplyAdd from '../../shaders/lib/multiply_add.wgsl?raw';
import normRow from '../../shaders/lib/norm_row.wgsl?raw';
import openPlain from '../../shaders/lib/open_plain.wgsl?raw';
import reduceSubgroup from '../../shaders/lib/reduce_subgroup.wgsl?raw';
import reduceWorkgroup from '../../shaders/lib/reduce_workgroup.wgsl?raw';
import rowSums from '../../shaders/lib/row_sums.wgsl?raw';
import stageF16 from '../../shaders/lib/stage_f16.wgsl?raw';
import stagePacked from '../../shaders/lib/stage_packed.wgsl?raw';
import stagePlain from '../../shaders/lib/stage_plain.wgsl?raw';
import tile from '../../shaders/lib/tile.wgsl?raw';
import tileList from '../../shaders/lib/tile_list.wgsl?raw';
import tileMatrix from '../../shaders/lib/tile_matrix.wgsl?raw';
import tilePlain from '../../shaders/lib/tile_plain.wgsl?raw';
import tileQuad from '../../shaders/lib/tile_quad.wgsl?raw';
import tileSums from '../../shaders/lib/tile_sums.wgsl?raw';
import weightsBf16 from '../../shaders/lib/weights_bf16.wgsl?raw';
import weightsF16 from '../../shaders/lib/weights_f16.wgsl?raw';
import weightsF32 from '../../shaders/lib/weights_f32.wgsl?raw';
import weightsIq4Nl from '../../shaders/lib/weights_iq4_nl.wgsl?raw';
import weightsKScales from '../../shaders/lib/weights_k_scales.wgsl?raw';
import weightsMxfp4 from '../../shaders/lib/weights_mxfp4.wgsl?raw';
import weightsNibbles from '../../shaders/lib/weights_nibbles.wgsl?raw';
import weightsPairs from '../../shaders/lib/weights_pairs.wgsl?raw';
import weightsPlanes from '../../shaders/lib/weights_planes.wgsl?raw';
import weightsQ2_K from '../../shaders/lib/weights_q2_k.wgsl?raw';
import weightsQ3_K from '../../shaders/lib/weights_q3_k.wgsl?raw';
import weightsQ4_0 from '../../shaders/lib/weights_q4_0.wgsl?raw';
import weightsQ4_1 from '../../shaders/lib/weights_q4_1.wgsl?raw';
import weightsQ4_K from '../../shaders/lib/weights_q4_k.wgsl?raw';
import weightsQ5_0 from '../../shaders/lib/weights_q5_0.wgsl?raw';
import weightsQ5_1 from '../../shaders/lib/weights_q5_1.wgsl?raw';
import weightsQ5_K from '../../shaders/lib/weights_q5_k.wgsl?raw';
import weightsQ6_K from '../../shaders/lib/weights_q6_k.wgsl?raw';
import weightsQ8_0 from '../../shaders/lib/weights_q8_0.wgsl?raw';
import xPlain from '../../shaders/lib/x_plain.wgsl?raw';
import xSpans from '../../shaders/lib/x_spans.wgsl?raw';
import type { WeightType } from '../checkpoint/model-config';
import type { KvType } from './kv-type';
import type { Products, Variant } from './variant';

const REDUCE = { subgroup: reduceSubgroup, workgroup: reduceWorkgroup } as const;

const withNibbles = (own: string): string => [weightsPlanes, weightsNibbles, own].join('\n');
const withPairs = (own: string): string => [weightsPlanes, weightsPairs, own].join('\n');

/** Each defines `block_quad`, and with `getDot` before it `block_dot`. */
const WEIGHTS: Readonly<Record<WeightType, string>> = {
  f32: weightsF32,
  f16: weightsF16,
  bf16: weightsBf16,
  q8_0: weightsQ8_0,
  q4_0: weightsQ4_0,
  q4_1: withNibbles(weightsQ4_1),
  q5_0: withNibbles(weightsQ5_0),
  q5_1: withNibbles(weightsQ5_1),
  q2_k: withPairs(weightsQ2_K),
  q3_k: withPairs(weightsQ3_K),
  q4_k: [withNibbles(weightsQ4_K), weightsKScales].join('\n'),
  q5_k: [withNibbles(weightsQ5_K), weightsKScales].join('\n'),
  q6_k: withNibbles(weightsQ6_K),
  iq4_nl: withNibbles(weightsIq4Nl),
  mxfp4: withNibbles(weightsMxfp4),
};

/** Of the formats that have several forms of it: `block_dot` with activations as they are, in bytes, and in halves. */
const DOTS: Partial<Record<WeightType, Readonly<Record<Products, string>>>> = {
  q4_0: { plain: dotQ4_0, packed: dotQ4_0Packed, f16: dotQ4_0F16 },
  q8_0: { plain: dotQ8_0, packed: dotQ8_0Packed, f16: dotQ8_0F16 },
};

const STAGES: Readonly<Record<Products, string>> = { plain: stagePlain, packed: stagePacked, f16: stageF16 };

/** How a block's activations are staged, and `block_dot` where the format does not have one of its own. */
function getDot(type: WeightType, { products }: Variant): string {
  const dots = DOTS[type];
  return dots ? [STAGES[products], dots[products]].join('\n') : stagePlain;
}

/** Formats that say themselves what the quads of a block share; the others stand on open_plain. */
const OPENS_BLOCKS: ReadonlySet<WeightType> = new Set(['q4_0', 'q8_0']);

/**
 * What a kernel stands on besides the control words, reductions and weights: `tile` is a tiled product, `kv_read` reads a cache
 * of the type that is named too, `kv_four` four positions of it at a time; `row_sums` holds a
 * product's rows; `x_plain` and `x_spans` read its activations.
 */
export type Snippet =
  | 'activation'
  | 'expert_pool'
  | 'tile_list'
  | 'tile'
  | `kv_${KvType}`
  | 'kv_read'
  | 'kv_four'
  | 'norm_row'
  | 'row_sums'
  | 'x_plain'
  | 'x_spans';

/** The sizes of WGSL's matrix types must be constants; overrides will not do. */
function getMatrixSizes({ rows, depth, lanes }: NonNullable<Variant['matrix']>): string {
  return `const MATRIX_ROWS = ${rows}u;\nconst MATRIX_DEPTH = ${depth}u;\nconst MATRIX_LANES = ${lanes}u;`;
}

/** Full source of a kernel; `weightType` where it reads quantised weights. */
export function getProgramSource(
  kernel: string,
  variant: Variant,
  weightType?: WeightType,
  snippets: readonly Snippet[] = [],
): string {
  const isQuad = variant.reduce === 'subgroup';
  const texts: Readonly<Record<Snippet, readonly string[]>> = {
    activation: [activation],
    expert_pool: [expertPool],
    tile_list: [tileList],
    tile: [
      weightType && OPENS_BLOCKS.has(weightType) ? '' : openPlain,
      tileList,
      tileSums,
      ...(variant.matrix
        ? [tilePlain, getMatrixSizes(variant.matrix), tileMatrix]
        : [multiplyAdd, isQuad ? tileQuad : tilePlain, tile]),
    ],
    norm_row: [normRow],
    row_sums: [rowSums],
    x_plain: [xPlain],
    x_spans: [xSpans],
    kv_f32: [kvF32, kvRows],
    kv_f16: [kvF16, kvRows],
    kv_q8: [kvQ8, kvRows],
    kv_read: [kvRead],
    kv_four: [multiplyAdd, isQuad ? kvQuad : kvPlain],
  };
  const hasMatrices = variant.matrix !== null && snippets.includes('tile');
  return [
    isQuad || hasMatrices ? 'enable subgroups;' : '',
    variant.products === 'f16' || hasMatrices ? 'enable f16;' : '',
    hasMatrices ? 'enable chromium_experimental_subgroup_matrix;' : '',
    control,
    REDUCE[variant.reduce],
    weightType ? [getDot(weightType, variant), WEIGHTS[weightType]].join('\n') : '',
    ...snippets.flatMap((snippet) => texts[snippet]),
    kernel,
  ].join('\n');
}
