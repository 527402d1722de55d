/**
 * The forward pass, as lists of bound kernels. Records commands; never submits, reads back, or moves a page.
 *
 *   x = norm(embed(token))
 *   for every layer:
 *     q, k, v = W x                      qkv
 *     q, k = rope(norm(q)), rope(norm(k)); cache k, v
 *     residual += W attention(q, cache)
 *     experts = top-k of scores(W norm(residual))         <- a missing page stops the pass here
 *     residual += down(silu(gate x) * up x)               of the expert that all tokens share, or of a layer without experts
 *     residual += sum of weight * down(act(gate x, up x)) of the chosen experts
 *     x = norm(residual)
 *   logits = W x
 */
import type { ModelManifest } from '../checkpoint/manifest';
import { assert } from '../errors';
import type { SlotPool } from '../experts/slot-pool';
import type { GpuDevice } from '../gpu/device';
import type { DeviceBuffer } from '../gpu/memory';
import type { Submission } from '../gpu/pass';
import type { BindingResource } from '../gpu/program';
import { getUniformBytes, UniformBlock } from '../gpu/uniforms';
import { bindLate, type Command } from '../kernels/command';
import { NO_SHADOW } from '../kernels/matvec';
import type { KernelSet } from './kernel-set';
import type { RunState } from './run-state';
import {
  getAddition,
  getProduct,
  type LayerWeightPlan,
  listMatrices,
  type MatrixPlan,
  type MlpWeightPlan,
  type Product,
  type WeightPlan,
  type Weights,
} from './weights';

/** Where a pass (re)starts: at a layer's attention, at its experts, or at its combine step. */
export interface EntryPoint {
  readonly layer: number;
  readonly stage: 'attention' | 'experts' | 'combine';
}

/**
 * Which kernels a pass runs: row by row, reading every weight for each, or tiles of many rows (prefill). They differ in the
 * order of sums, so a pass's form is a function of what it is for and of its rows, never of what is resident.
 */
export type PassForm = 'rows' | 'tiles';

/** A step in both forms. */
type Step = Readonly<Record<PassForm, Command>>;

interface LayerCommands {
  readonly attention: readonly Step[];
  /** Bound by `bindExperts` where the layer has experts; else its MLP. */
  experts: readonly Step[];
  /** First of the uniform places for the pool's buffers. */
  readonly poolUniforms: number;
  readonly combine: Command;
}

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

/** Most uniform structs that a layer takes beside those of its matrices and slots: its place, and those of two norms. */
const STRUCTS_PER_LAYER = 3;

/** Bytes of the constants' buffer: a struct per matrix, a few per layer, and one per buffer of its slots. */
export function getForwardUniformBytes(plan: WeightPlan, poolPartsPerLayer: number): number {
  const matrices = listMatrices(plan).length + plan.head.length;
  return getUniformBytes(matrices + plan.layers.length * (STRUCTS_PER_LAYER + poolPartsPerLayer));
}

export class Forward {
  readonly #embed: readonly Command[];
  readonly #layers: readonly LayerCommands[];
  readonly #head: readonly Step[];
  readonly #sample: Command;
  readonly #adjust: Command;
  readonly #sampleAdjusted: Command;
  readonly #hiddenBytes: number;
  readonly #uniforms: UniformBlock;

  constructor(private readonly parts: ForwardParts) {
    const { device, manifest, kernels, weights, state, constants, sampling } = parts;
    const uniforms = new UniformBlock(device, constants);
    this.#uniforms = uniforms;
    this.#hiddenBytes = manifest.config.hiddenSize * 4;
    const firstNorm = weights.plan.layers[0]?.attnNorm as MatrixPlan;
    this.#embed = weights.plan.embedding.map((part) =>
      kernels.embedNorm.bind({
        part: uniforms.add(part.firstRow, part.rows),
        weights: weights.getBuffer(part),
        tokens: state.tokens,
        norm: weights.getBuffer(firstNorm),
        residual: state.residual,
        x: state.x,
      }),
    );
    this.#layers = weights.plan.layers.map((plan, layer) => this.#bindLayer(plan, layer, uniforms));
    for (const layer of manifest.config.moeLayers) this.bindExperts(layer);
    // The head runs when no layer at all has faulted: it lies behind the last one.
    const behindAll = manifest.config.moeLayers.length;
    const { vocabSize, logitScale } = manifest.config;
    this.#head = weights.plan.head.map((part) =>
      this.#bindProduct(
        uniforms,
        getProduct(part, weights.plan.headBias, logitScale),
        [state.headInput, state.logits],
        [vocabSize, behindAll, NO_SHADOW],
        true,
      ),
    );
    const { control, adjustedLogits } = state;
    this.#sample = kernels.sampleToken.bind({ sampling, logits: state.logits, control });
    this.#adjust = kernels.adjustLogits.bind({ changes: state.logitChanges, logits: adjustedLogits, control });
    this.#sampleAdjusted = kernels.sampleToken.bind({ sampling, logits: adjustedLogits, control });
  }

  /** tokens -> residual and x of layer 0 */
  encodeEmbed(submission: Submission, rows: number): void {
    for (const command of this.#embed) command(submission, rows);
  }

  /** From an entry point up to layer `until`: of that layer the attention and the router only. */
  encodeLayers(submission: Submission, form: PassForm, from: EntryPoint, until: number, rows: number): void {
    for (const [layer, commands] of this.#layers.entries()) {
      if (layer < from.layer || layer > until) continue;
      const stage = layer === from.layer ? from.stage : 'attention';
      if (stage === 'attention') for (const step of commands.attention) step[form](submission, rows);
      if (layer === until) break;
      if (stage !== 'combine') for (const step of commands.experts) step[form](submission, rows);
      commands.combine(submission, rows);
    }
  }

  /** A layer's experts alone: those that the page table shows. */
  encodeExperts(submission: Submission, form: PassForm, layer: number, rows: number): void {
    for (const step of this.#layers[layer]?.experts ?? []) step[form](submission, rows);
  }

  /** Logits of `count` rows from `firstRow`. */
  encodeHead(submission: Submission, form: PassForm, firstRow: number, count: number): void {
    const { x, headInput } = this.parts.state;
    submission.copy(x, firstRow * this.#hiddenBytes, headInput, 0, count * this.#hiddenBytes);
    for (const step of this.#head) step[form](submission, count);
  }

  /** Tokens of the first `count` rows of logits. */
  encodeSample(submission: Submission, count: number): void {
    this.#sample(submission, count);
  }

  /**
   * Token of one row, as the first row's token, its logits changed as `state.logitChanges` says; the logits themselves stay as
   * they are.
   */
  encodeSampleAdjusted(submission: Submission, row: number): void {
    const { logits, adjustedLogits } = this.parts.state;
    const rowBytes = this.parts.manifest.config.vocabSize * 4;
    submission.copy(logits, row * rowBytes, adjustedLogits, 0, rowBytes);
    this.#adjust(submission, 1);
    this.#sampleAdjusted(submission, 1);
  }

  /** Binds a layer's experts to the pool's buffers; again whenever these have changed. */
  bindExperts(layer: number): void {
    const { manifest, kernels, state, pageTable, step, pool } = this.parts;
    const {
      routeIds,
      routeOrder: order,
      routeTiles: tiles,
      control,
      act,
      expertInput: x,
      expertOutputs: outputs,
    } = state;
    const moe = manifest.config.moeLayers.indexOf(layer);
    const page = manifest.pageLayouts[moe];
    const commands = this.#layers[layer];
    assert(page && commands, `layer ${layer} has experts`);
    const { gateProj, upProj, downProj, gateBias, upBias, downBias } = page;
    const bases = [gateProj, upProj, downProj, gateBias, upBias, downBias].map((part) => (part?.offsetBytes ?? 0) / 16);
    commands.experts = pool.getParts(moe).flatMap((part, i): Step[] => {
      const shared = {
        pool: this.#uniforms.set(
          commands.poolUniforms + i,
          moe,
          part.firstSlot,
          part.slots,
          page.pageBytes / 16,
          ...bases,
        ),
        weights: part.buffer,
        pageTable,
        act,
      };
      const byRows = { ...shared, step, routeIds, control };
      const byTiles = { ...shared, order, tiles };
      return [
        {
          rows: kernels.getExpertGateUp(gateProj.type).bind({ ...byRows, x }),
          tiles: bindLate(() =>
            kernels.tiles
              .get()
              .getExpertGateUp(gateProj.type)
              .bind({ ...byTiles, x }),
          ),
        },
        {
          rows: kernels.getExpertDown(downProj.type).bind({ ...byRows, outputs }),
          tiles: bindLate(() =>
            kernels.tiles
              .get()
              .getExpertDown(downProj.type)
              .bind({ ...byTiles, outputs }),
          ),
        },
      ];
    });
  }

  #bindLayer(plan: LayerWeightPlan, layer: number, uniforms: UniformBlock): LayerCommands {
    const { manifest, weights, state } = this.parts;
    const { moeLayers } = manifest.config;
    // Position among the MoE layers of this one, or of the next behind it.
    const moe = moeLayers.filter((moeLayer) => moeLayer < layer).length;
    const place = uniforms.add(moe);
    const nextNorm = weights.plan.layers[layer + 1]?.attnNorm ?? weights.plan.outputNorm;
    const attention = this.#bindAttention(plan, layer, moe, place, uniforms);
    const mlp = plan.mlp ? this.#bindMlp(plan.mlp, moe, uniforms) : [];
    if (moeLayers.includes(layer)) {
      return {
        // The shared expert needs no page: it is done before the pass may stop.
        attention: [...attention, this.#bindRouter(plan, place), this.#bindOrder(place), ...mlp],
        experts: [],
        poolUniforms: uniforms.reserve(this.parts.poolPartsPerLayer),
        combine: this.#bindCombine(nextNorm, place),
      };
    }
    return {
      attention,
      experts: [same(this.#bindNorm(plan.gate, moe, state.expertInput, this.#shadowOffset, uniforms)), ...mlp],
      poolUniforms: 0,
      combine: this.#bindNorm(nextNorm, moe, state.x, 0, uniforms),
    };
  }

  /** qkv to residual += W attention(q, cache). */
  #bindAttention(
    plan: LayerWeightPlan,
    layer: number,
    moe: number,
    moeLayer: BindingResource,
    uniforms: UniformBlock,
  ): Step[] {
    const { manifest, kernels, state, step } = this.parts;
    const { config } = manifest;
    const { heads, kvHeads, headDim } = config.attention;
    const { control, x, qkv, mixed, residual, rope } = state;
    const mixer = config.mixers[layer];
    const [kCache, vCache] = [state.kCache[layer], state.vCache[layer]];
    assert(mixer && kCache && vCache, `layer ${layer} has a mixer and a cache`);
    const norms = this.#getOptional(plan.qkNorms);
    const sinks = this.#getOptional(plan.sinks);
    const attention = { step, qkv, kCache, vCache, out: mixed, sinks };
    return [
      ...plan.qkv.map((part) =>
        this.#bindProduct(
          uniforms,
          getProduct(part, plan.qkvBias),
          [x, qkv],
          [(heads + 2 * kvHeads) * headDim, moe, 0],
        ),
      ),
      same(kernels.getQkNormRope(mixer).bind({ moeLayer, step, qkv, norms, rope, kCache, vCache, control })),
      {
        rows: kernels.getAttention(mixer).bind({ ...attention, moeLayer, control }),
        tiles: bindLate(() => kernels.tiles.get().getAttention(mixer).bind(attention)),
      },
      this.#bindAddition(getAddition(plan.oProj, plan.oBias, config), mixed, residual, moe, uniforms),
    ];
  }

  #bindRouter(plan: LayerWeightPlan, moeLayer: BindingResource): Step {
    const { kernels, weights, state, pageTable, step } = this.parts;
    const { control, residual, routeIds, routeWeights, expertInput: x } = state;
    const gate = weights.getBuffer(plan.gate);
    return same(
      kernels.routerTopk.bind({ moeLayer, step, gate, residual, pageTable, control, x, routeIds, routeWeights }),
    );
  }

  /** Tiles alone need the router's choices sorted. */
  #bindOrder(moeLayer: BindingResource): Step {
    const { kernels, state, step } = this.parts;
    const { routeIds, routeOrder: order, routeTiles: tiles } = state;
    const buffers = { moeLayer, step, routeIds, order, tiles };
    return { rows: () => {}, tiles: bindLate(() => kernels.tiles.get().routeOrder.bind(buffers)) };
  }

  /** residual += down(silu(gate x) * up x), x the experts' input. */
  #bindMlp(mlp: MlpWeightPlan, moe: number, uniforms: UniformBlock): Step[] {
    const { manifest, kernels, weights, state } = this.parts;
    const { control, residual, expertInput: x, mlpAct: act } = state;
    const width = mlp.down.cols;
    const shape = uniforms.add(width, mlp.gateUp.cols / 32, moe);
    const buffers = {
      shape,
      weights: weights.getBuffer(mlp.gateUp),
      x,
      scale: this.#getOptional(mlp.scale),
      act,
      control,
    };
    return [
      same(kernels.getMlpGateUp(mlp).bind(buffers, width)),
      this.#bindAddition(getAddition(mlp.down, null, manifest.config), act, residual, moe, uniforms),
    ];
  }

  #bindCombine(norm: MatrixPlan, moeLayer: BindingResource): Command {
    const { kernels, weights, state, step } = this.parts;
    const { control, x, residual, routeWeights, expertOutputs: outputs } = state;
    const buffers = { moeLayer, step, outputs, routeWeights, residual, norm: weights.getBuffer(norm), x, control };
    return kernels.combineNorm.bind(buffers);
  }

  #bindNorm(norm: MatrixPlan, moe: number, x: DeviceBuffer, shadowOffset: number, uniforms: UniformBlock): Command {
    const { kernels, weights, state } = this.parts;
    const { residual, control } = state;
    const place = uniforms.add(moe, shadowOffset);
    return kernels.norm.bind({ place, residual, norm: weights.getBuffer(norm), x, control });
  }

  /** Values between the exact and the shadow half of the residual stream. */
  get #shadowOffset(): number {
    return this.parts.rowsCapacity * this.parts.manifest.config.hiddenSize;
  }

  /** Adds a product to the residual stream, in shadow to its second half. */
  #bindAddition(product: Product, x: DeviceBuffer, y: DeviceBuffer, moe: number, uniforms: UniformBlock): Step {
    return this.#bindProduct(uniforms, product, [x, y], [product.matrix.rows, moe, this.#shadowOffset]);
  }

  /**
   * @param place y's stride, the MoE layer at or behind it, and y's offset in shadow.
   * @param ofHead the rows are those that get logits, not those of the pass.
   */
  #bindProduct(
    uniforms: UniformBlock,
    { matrix, bias, form }: Product,
    [x, y]: readonly [DeviceBuffer, DeviceBuffer],
    place: readonly [yStride: number, moeLayer: number, shadowOffset: number],
    ofHead = false,
  ): Step {
    const { kernels, weights, state, step } = this.parts;
    const { type, accumulate, hasBias, scale } = form;
    const flags = [ofHead, accumulate, hasBias].map(Number);
    const shape = uniforms.add(matrix.rows, matrix.cols / 32, matrix.firstRow, ...place, ...flags, { f32: scale });
    const buffers = { shape, weights: weights.getBuffer(matrix), x, y, bias: this.#getOptional(bias) };
    return {
      rows: kernels.getMatvec(form).bind({ ...buffers, control: state.control }, matrix.rows),
      tiles: bindLate(() =>
        kernels.tiles
          .get()
          .getMatmul(type)
          .bind({ ...buffers, step }, matrix.rows),
      ),
    };
  }

  #getOptional(matrix: MatrixPlan | null): DeviceBuffer {
    return matrix ? this.parts.weights.getBuffer(matrix) : this.parts.state.nothing;
  }
}

/** A step that has one form. */
function same(command: Command): Step {
  return { rows: command, tiles: command };
}
