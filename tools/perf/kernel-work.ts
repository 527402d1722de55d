/**
 * What a dispatch has to move and to compute at least, from the buffers that are bound to it: each value that it needs
 * counts once, however often a kernel reads it. Pure sums; knows buffers by their labels, and no layer that slides.
 */
import type { ModelManifest } from '../../src/checkpoint/manifest';
import type { StateShape } from '../../src/model/run-state';
import { listMatrices, type WeightPlan } from '../../src/model/weights';
import type { BoundBuffer } from './dispatch-watch';

export interface PassShape {
  readonly rows: number;
  /** Of the first row. */
  readonly position: number;
  /** Experts that the rows choose in a layer, without repetitions; the mean of the layers. */
  readonly distinctExperts: number;
}

export interface KernelWork {
  readonly bytes: number;
  /** Multiplications and additions of products; 0 where a kernel makes none. */
  readonly flops: number;
}

export interface WorkModel {
  readonly manifest: ModelManifest;
  readonly weights: WeightPlan;
  readonly state: StateShape;
}

/** A row of logits each, however many rows the pass has. */
const PER_LOGITS_ROW: ReadonlySet<string> = new Set(['headInput', 'logits', 'adjustedLogits']);
/** [2, rows, …]: exact and shadow. */
const DOUBLED: ReadonlySet<string> = new Set(['residual', 'expertInput']);
/** [MoE layers, rows, …]. */
const PER_MOE_LAYER: ReadonlySet<string> = new Set(['routeIds', 'routeWeights']);
const PER_ROW: ReadonlySet<string> = new Set([
  ...DOUBLED,
  ...PER_MOE_LAYER,
  ...['x', 'qkv', 'mixed', 'latentQueries', 'headValues', 'queryDown', 'queryLatent', 'act', 'expertOutputs', 'mlpAct'],
]);

/** Head of one row: every pass here asks for the logits of its last row alone. */
const LOGITS_ROWS = 1;

export function getKernelWork(
  { manifest: { config, pageLayouts }, weights, state }: WorkModel,
  kernel: string,
  buffers: readonly BoundBuffer[],
  { rows, position, distinctExperts }: PassShape,
): KernelWork {
  const matrices = new Map(listMatrices(weights).map((matrix) => [matrix.label, matrix]));
  const { heads, headDim } = config.attention;
  const isHead = buffers.some(({ label }) => label === 'headInput');
  const ownRows = isHead ? LOGITS_ROWS : rows;
  let bytes = 0;
  let flops = 0;
  for (const { label, sizeBytes } of buffers) {
    const matrix = matrices.get(label);
    if (matrix && kernel.startsWith('embed')) {
      bytes += (matrix.sizeBytes / matrix.rows) * Math.min(rows, matrix.rows);
    } else if (matrix) {
      bytes += matrix.sizeBytes;
      flops += 2 * ownRows * matrix.rows * matrix.cols;
    } else if (label.startsWith('slots of page group')) {
      const page = pageLayouts[0];
      const parts = page
        ? { gate_up: [page.gateProj ?? [], page.upProj, page.factorProj ?? []].flat(), down: [page.downProj] }
        : { gate_up: [], down: [] };
      const read = [
        ...(kernel.includes('down') ? [] : parts.gate_up),
        ...(kernel.includes('gate_up') ? [] : parts.down),
      ];
      bytes += distinctExperts * read.reduce((sum, part) => sum + part.sizeBytes, 0);
      flops += 2 * rows * config.moe.expertsPerToken * read.reduce((sum, part) => sum + part.rows * part.cols, 0);
    } else if (/^[kv] cache /.test(label)) {
      const isRead = buffers.some(({ label: other }) => other === 'mixed' || other === 'attentionSpans');
      bytes += (sizeBytes / state.contextLength) * (isRead ? position + rows : rows);
      // A row sees its own position and those before it; a product with keys, another with values.
      if (isRead) flops += 2 * heads * headDim * (rows * position + (rows * (rows + 1)) / 2);
    } else if (PER_LOGITS_ROW.has(label)) {
      bytes += (sizeBytes / (label === 'adjustedLogits' ? 1 : state.logitRows)) * LOGITS_ROWS;
    } else if (PER_ROW.has(label)) {
      const halves = DOUBLED.has(label) ? 2 : PER_MOE_LAYER.has(label) ? config.moeLayers.length : 1;
      bytes += (sizeBytes / halves / state.rows) * rows;
    }
  }
  return { bytes, flops };
}
