/**
 * Bound kernels as steps of a pass, in both of its forms, and the products and norms that every part of a layer is made of.
 * Owns how a product's place is told to its kernels; which products there are is the business of forward.ts and mixer-steps.ts.
 */
import type { ModelManifest } from '../checkpoint/manifest';
import type { SlotPool } from '../experts/slot-pool';
import type { GpuDevice } from '../gpu/device';
import type { DeviceBuffer } from '../gpu/memory';
import type { UniformBlock } from '../gpu/uniforms';
import { bindLate, type Command } from '../kernels/command';
import type { KernelSet } from './kernel-set';
import { getAddition, type Product } from './products';
import type { RunState } from './run-state';
import type { MatrixPlan, MixingWeightPlan, Weights } from './weights';

/**
 * Which kernels a pass runs: row by row, reading every weight for each, or tiles of many rows (prefill). They differ in the
 * order of sums, so a pass's form is a function of what it is for and of its rows, never of what is resident.
 */
export type PassForm = 'rows' | 'tiles';

/** A step in both forms. */
export type Step = Readonly<Record<PassForm, Command>>;

export interface ForwardParts {
  readonly device: GpuDevice;
  readonly manifest: ModelManifest;
  readonly kernels: KernelSet;
  readonly weights: Weights;
  readonly state: RunState;
  /** Rows of one half of the state's doubled buffers. */
  readonly rowsCapacity: number;
  readonly pool: SlotPool;
  /** Most buffers that a layer's slots can take. */
  readonly poolPartsPerLayer: number;
  readonly pageTable: DeviceBuffer;
  /** Buffer of `getForwardUniformBytes` for what never changes. */
  readonly constants: DeviceBuffer;
  /** {rows, position} of the pass. */
  readonly step: DeviceBuffer;
  /** Sampling parameters; see shaders/sample_token.wgsl. */
  readonly sampling: DeviceBuffer;
}

/** A step that has one form. */
export function same(command: Command): Step {
  return { rows: command, tiles: command };
}

export class StepBinder {
  constructor(
    readonly parts: ForwardParts,
    readonly uniforms: UniformBlock,
  ) {}

  /**
   * @param place y's stride, the MoE layer at or behind it, and y's offset in shadow.
   * @param ofHead the rows are those that get logits, not those of the pass.
   * @param own x of the form row by row, where that is another.
   */
  bindProduct(
    { matrix, bias, form }: Product,
    [x, y]: readonly [DeviceBuffer, DeviceBuffer],
    place: readonly [yStride: number, moeLayer: number, shadowOffset: number],
    ofHead = false,
    own = x,
  ): Step {
    const { kernels, weights, state, step } = this.parts;
    const { type, accumulate, hasBias, scale } = form;
    const flags = [ofHead, accumulate, hasBias].map(Number);
    const shape = this.uniforms.add(matrix.rows, matrix.cols / 32, matrix.firstRow, ...place, ...flags, { f32: scale });
    const buffers = { shape, weights: weights.getBuffer(matrix), x, y, bias: this.getOptional(bias) };
    return {
      rows: kernels.getMatvec(form).bind({ ...buffers, x: own, control: state.control }, matrix.rows),
      tiles: bindLate(() =>
        kernels.tiles
          .get()
          .getMatmul(type)
          .bind({ ...buffers, step }, matrix.rows),
      ),
    };
  }

  /** Adds a product to the residual stream, in shadow to its second half. */
  bindAddition(matrix: MatrixPlan, bias: MatrixPlan | null, x: DeviceBuffer, moe: number): Step {
    const product = getAddition(matrix, bias, this.parts.manifest.config);
    return this.bindProduct(product, [x, this.parts.state.residual], [matrix.rows, moe, this.shadowOffset]);
  }

  /** What attention leaves row by row: its result, or the spans that the product behind it adds up. */
  get attentionOutput(): DeviceBuffer {
    const { kernels, state } = this.parts;
    return kernels.splitsAttention ? state.attentionSpans : state.mixed;
  }

  /** The output projection of attention, added to the residual stream. */
  bindAttentionOutput({ oProj, oBias }: MixingWeightPlan, moe: number): Step {
    const { manifest, state } = this.parts;
    const product = getAddition(oProj, oBias, manifest.config, true);
    const place = [oProj.rows, moe, this.shadowOffset] as const;
    return this.bindProduct(product, [state.mixed, state.residual], place, false, this.attentionOutput);
  }

  /** x = norm(residual) */
  bindNorm(norm: MatrixPlan, moe: number, x: DeviceBuffer, shadowOffset: number): Command {
    const { kernels, weights, state } = this.parts;
    const { residual, control } = state;
    const place = this.uniforms.add(moe, shadowOffset);
    return kernels.norm.bind({ place, residual, norm: weights.getBuffer(norm), x, control });
  }

  /** Values between the exact and the shadow half of the residual stream. */
  get shadowOffset(): number {
    return this.parts.rowsCapacity * this.parts.manifest.config.hiddenSize;
  }

  getOptional(matrix: MatrixPlan | null): DeviceBuffer {
    return matrix ? this.parts.weights.getBuffer(matrix) : this.parts.state.nothing;
  }
}
