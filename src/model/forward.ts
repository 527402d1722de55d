/**
 * The forward pass, as lists of bound kernels. Records commands; never submits, reads back, or moves a page.
 *
 *   x = norm(embed(token))
 *   for every layer:
 *     q, k, v = W x                      qkv
 *     q, k = rope(norm(q)), rope(norm(k)); cache k, v
 *     residual += W attention(q, cache)
 *     experts = top-k of softmax(W norm(residual))        <- a missing page stops the pass here
 *     residual += sum of weight * down(silu(gate x) * up x)
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
import type { Command } from '../kernels/command';
import { type Matvec, NO_SHADOW } from '../kernels/matvec';
import type { KernelSet } from './kernel-set';
import type { RunState } from './run-state';
import type { LayerWeightPlan, MatrixPlan, WeightPlan, Weights } from './weights';

/** Where a pass (re)starts: at a layer's attention, at its experts, or at its combine step. */
export interface EntryPoint {
  readonly layer: number;
  readonly stage: 'attention' | 'experts' | 'combine';
}

interface LayerCommands {
  readonly attention: readonly Command[];
  /** Bound by `bindExperts`. */
  experts: readonly Command[];
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

/** Bytes of the constants' buffer: a struct per matrix product, per layer, and per buffer of its slots. */
export function getForwardUniformBytes(plan: WeightPlan, poolPartsPerLayer: number): number {
  const products = plan.layers.reduce(
    (sum, layer) => sum + layer.qkv.length + 1,
    plan.embedding.length + plan.head.length,
  );
  return getUniformBytes(products + plan.layers.length * (1 + poolPartsPerLayer));
}

export class Forward {
  readonly #embed: readonly Command[];
  readonly #layers: readonly LayerCommands[];
  readonly #head: readonly Command[];
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
    this.#head = weights.plan.head.map((part) =>
      this.#bindMatvec(uniforms, part, state.headInput, state.logits, manifest.config.vocabSize, behindAll, NO_SHADOW),
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
  encodeLayers(submission: Submission, from: EntryPoint, until: number, rows: number): void {
    for (const [layer, commands] of this.#layers.entries()) {
      if (layer < from.layer || layer > until) continue;
      const stage = layer === from.layer ? from.stage : 'attention';
      if (stage === 'attention') for (const command of commands.attention) command(submission, rows);
      if (layer === until) break;
      if (stage !== 'combine') for (const command of commands.experts) command(submission, rows);
      commands.combine(submission, rows);
    }
  }

  /** A layer's experts alone: those that the page table shows. */
  encodeExperts(submission: Submission, layer: number, rows: number): void {
    for (const command of this.#layers[layer]?.experts ?? []) command(submission, rows);
  }

  /** A layer's sum over its experts, and the next layer's norm. */
  encodeCombine(submission: Submission, layer: number, rows: number): void {
    this.#layers[layer]?.combine(submission, rows);
  }

  /** Logits of `count` rows from `firstRow`. */
  encodeHead(submission: Submission, firstRow: number, count: number): void {
    const { x, headInput } = this.parts.state;
    submission.copy(x, firstRow * this.#hiddenBytes, headInput, 0, count * this.#hiddenBytes);
    for (const command of this.#head) command(submission, count);
  }

  /** Tokens of the first `count` rows of logits. */
  encodeSample(submission: Submission, count: number): void {
    this.#sample(submission, count);
  }

  /** Token of the first row, its logits changed as `state.logitChanges` says; the logits themselves stay as they are. */
  encodeSampleAdjusted(submission: Submission): void {
    const { logits, adjustedLogits } = this.parts.state;
    submission.copy(logits, 0, adjustedLogits, 0, this.parts.manifest.config.vocabSize * 4);
    this.#adjust(submission, 1);
    this.#sampleAdjusted(submission, 1);
  }

  /** Binds a layer's experts to the pool's buffers; again whenever these have changed. */
  bindExperts(layer: number): void {
    const { manifest, kernels, state, pageTable, step, pool } = this.parts;
    const { routeIds, control, act, expertInput, expertOutputs } = state;
    const moe = manifest.config.moeLayers.indexOf(layer);
    const page = manifest.pageLayouts[moe];
    const commands = this.#layers[layer];
    assert(page && commands, `layer ${layer} has experts`);
    commands.experts = pool.getParts(moe).flatMap((part, i) => {
      const shared = {
        pool: this.#uniforms.set(
          commands.poolUniforms + i,
          moe,
          part.firstSlot,
          part.slots,
          page.pageBytes / 16,
          page.gateProj.offsetBytes / 16,
          page.upProj.offsetBytes / 16,
          page.downProj.offsetBytes / 16,
        ),
        step,
        weights: part.buffer,
        routeIds,
        pageTable,
        act,
        control,
      };
      return [
        kernels.getExpertGateUp(page.gateProj.type).bind({ ...shared, x: expertInput }),
        kernels.getExpertDown(page.downProj.type).bind({ ...shared, outputs: expertOutputs }),
      ];
    });
  }

  #bindLayer(plan: LayerWeightPlan, layer: number, uniforms: UniformBlock): LayerCommands {
    const { manifest, kernels, weights, state, pageTable, step } = this.parts;
    const { config } = manifest;
    const { heads, kvHeads, headDim } = config.attention;
    const { control, x, qkv, mixed, residual, rope, routeIds, routeWeights, expertInput, expertOutputs } = state;
    const kCache = state.kCache[layer] as DeviceBuffer;
    const vCache = state.vCache[layer] as DeviceBuffer;
    // Position among the MoE layers; every layer of the architectures so far is one.
    const moe = config.moeLayers.indexOf(layer);
    const moeLayer = uniforms.add(moe);
    const nextNorm = this.parts.weights.plan.layers[layer + 1]?.attnNorm ?? weights.plan.outputNorm;

    return {
      attention: [
        ...plan.qkv.map((part) => this.#bindMatvec(uniforms, part, x, qkv, (heads + 2 * kvHeads) * headDim, moe, 0)),
        kernels.qkNormRope.bind({
          moeLayer,
          step,
          qkv,
          norms: plan.qkNorms ? weights.getBuffer(plan.qkNorms) : state.noNorms,
          rope,
          kCache,
          vCache,
          control,
        }),
        kernels.attention.bind({ moeLayer, step, qkv, kCache, vCache, out: mixed, control }),
        this.#bindProduct(kernels.getMatvecAdd(plan.oProj.type), uniforms, plan.oProj, mixed, residual, [
          config.hiddenSize,
          moe,
          this.parts.rowsCapacity * config.hiddenSize,
        ]),
        kernels.routerTopk.bind({
          moeLayer,
          step,
          gate: weights.getBuffer(plan.gate),
          residual,
          pageTable,
          control,
          x: expertInput,
          routeIds,
          routeWeights,
        }),
      ],
      experts: [],
      poolUniforms: uniforms.reserve(this.parts.poolPartsPerLayer),
      combine: kernels.combineNorm.bind({
        moeLayer,
        step,
        outputs: expertOutputs,
        routeWeights,
        residual,
        norm: weights.getBuffer(nextNorm),
        x,
        control,
      }),
    };
  }

  /** y = W x; with a shadow offset also behind a fault. */
  #bindMatvec(
    uniforms: UniformBlock,
    matrix: MatrixPlan,
    x: BindingResource,
    y: BindingResource,
    yStride: number,
    moeLayer: number,
    shadowOffset: number,
  ): Command {
    return this.#bindProduct(this.parts.kernels.getMatvec(matrix.type), uniforms, matrix, x, y, [
      yStride,
      moeLayer,
      shadowOffset,
    ]);
  }

  #bindProduct(
    kernel: Matvec,
    uniforms: UniformBlock,
    matrix: MatrixPlan,
    x: BindingResource,
    y: BindingResource,
    rest: readonly number[],
  ): Command {
    const { weights, state } = this.parts;
    const shape = uniforms.add(matrix.rows, matrix.cols / 32, matrix.firstRow, ...rest);
    return kernel.bind({ shape, weights: weights.getBuffer(matrix), x, y, control: state.control }, matrix.rows);
  }
}
