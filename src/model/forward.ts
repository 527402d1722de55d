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
import type { PackedMatrix } from '../checkpoint/manifest';
import { getPageGroup, getRouterInput, type MoeConfig } from '../checkpoint/model-config';
import { assert } from '../errors';
import type { Submission } from '../gpu/pass';
import type { BindingResource } from '../gpu/program';
import { getUniformBytes, UniformBlock } from '../gpu/uniforms';
import { bindLate, type Command } from '../kernels/command';
import { NO_SHADOW } from '../kernels/matvec';
import type { KernelSet } from './kernel-set';
import { bindMixer } from './mixer-steps';
import { listMlpForms } from './product-kernels';
import { getProduct } from './products';
import { type ForwardParts, type PassForm, type Step, StepBinder, same } from './steps';
import {
  isMixing,
  type LayerWeightPlan,
  listLayerMatrices,
  listMatrices,
  type MatrixPlan,
  type MlpWeightPlan,
  type WeightPlan,
} from './weights';

/** Where a pass (re)starts: at a layer's attention, at its experts, or at its combine step. */
export interface EntryPoint {
  readonly layer: number;
  readonly stage: 'attention' | 'experts' | 'combine';
}

/** Where a pass begins, behind the embedding. */
export const START: EntryPoint = { layer: 0, stage: 'attention' };

interface LayerCommands {
  readonly attention: readonly Step[];
  /** Bound by `bindExperts` where the layer has experts; else its MLP. */
  experts: readonly Step[];
  /** First of the uniform places for the pool's buffers. */
  readonly poolUniforms: number;
  readonly combine: Command;
}

/** Most uniform structs that a layer takes beside those of its matrices and slots: its place, and those of two norms. */
const STRUCTS_PER_LAYER = 3;

/** Uniform structs for a buffer of slots: for an expert's products, and for its factor where it has one. */
function countPartStructs({ hasFactor }: MoeConfig): number {
  return hasFactor ? 2 : 1;
}

/** Bytes of the constants' buffer: a struct per matrix, a few per layer, and one per buffer of its slots. */
export function getForwardUniformBytes(plan: WeightPlan, moe: MoeConfig, poolPartsPerLayer: number): number {
  const ofLayers = plan.layers.flatMap(listLayerMatrices);
  const repeated = ofLayers.length - new Set(ofLayers).size;
  const matrices = listMatrices(plan).length + repeated + plan.head.length;
  return getUniformBytes(
    matrices + plan.layers.length * (STRUCTS_PER_LAYER + countPartStructs(moe) * poolPartsPerLayer),
  );
}

export class Forward {
  readonly #embed: readonly Command[];
  readonly #layers: readonly LayerCommands[];
  readonly #head: readonly Step[];
  readonly #sample: Command;
  readonly #adjust: Command;
  readonly #sampleAdjusted: Command;
  readonly #hiddenBytes: number;
  readonly #binder: StepBinder;

  constructor(private readonly parts: ForwardParts) {
    const { device, manifest, kernels, weights, state, constants, sampling } = parts;
    const uniforms = new UniformBlock(device, constants);
    this.#binder = new StepBinder(parts, uniforms);
    this.#hiddenBytes = manifest.config.hiddenSize * 4;
    this.#embed = weights.plan.embedding.map((part) =>
      kernels.embedNorm.bind({
        part: uniforms.add(part.firstRow, part.rows),
        weights: weights.getBuffer(part),
        tokens: state.tokens,
        norm: weights.getBuffer(getNextNorm(weights.plan, 0)),
        residual: state.residual,
        x: state.x,
        control: state.control,
      }),
    );
    this.#layers = weights.plan.layers.map((plan, layer) => this.#bindLayer(plan, layer));
    for (const layer of manifest.config.moeLayers) this.bindExperts(layer);
    // The head runs when no layer at all has faulted: it lies behind the last one.
    const behindAll = manifest.config.moeLayers.length;
    const { vocabSize, logitScale } = manifest.config;
    this.#head = weights.plan.head.map((part) =>
      this.#binder.bindProduct(
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

  get kernels(): KernelSet {
    return this.parts.kernels;
  }

  /** The same passes over the same buffers, by other kernels. */
  withKernels(kernels: KernelSet): Forward {
    return new Forward({ ...this.parts, kernels });
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
    const group = getPageGroup(manifest.config.moe, moe);
    const page = manifest.pageLayouts[group];
    const commands = this.#layers[layer];
    assert(page && commands, `layer ${layer} has experts`);
    const { gateProj, upProj, factorProj, downProj, gateBias, upBias, downBias } = page;
    const structs = countPartStructs(manifest.config.moe);
    // The factor is read in the gate's place.
    const getBases = (gate: PackedMatrix): number[] =>
      [gate, upProj, downProj, gateBias, upBias, downBias].map((part) => (part?.offsetBytes ?? 0) / 16);
    commands.experts = pool.getParts(group).flatMap((part, i): Step[] => {
      const setPool = (place: number, gate: PackedMatrix): BindingResource => {
        const words = [moe, part.firstSlot, part.slots, page.pageBytes / 16, ...getBases(gate)];
        return this.#binder.uniforms.set(commands.poolUniforms + structs * i + place, ...words);
      };
      const shared = { pool: setPool(0, gateProj ?? upProj), weights: part.buffer, pageTable, act };
      const byRows = { ...shared, step, routeIds, control };
      const byTiles = { ...shared, order, tiles };
      const bindGateUp = (isFactor: boolean, pool: BindingResource): Step => ({
        rows: kernels.getExpertGateUp(upProj.type, isFactor).bind({ ...byRows, pool, x }),
        tiles: bindLate(() =>
          kernels.tiles
            .get()
            .getExpertGateUp(upProj.type, isFactor)
            .bind({ ...byTiles, pool, x }),
        ),
      });
      return [
        bindGateUp(false, shared.pool),
        ...(factorProj ? [bindGateUp(true, setPool(1, factorProj))] : []),
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

  #bindLayer(plan: LayerWeightPlan, layer: number): LayerCommands {
    const { manifest, weights, state } = this.parts;
    const { moeLayers } = manifest.config;
    // Position among the MoE layers of this one, or of the next behind it.
    const moe = moeLayers.filter((moeLayer) => moeLayer < layer).length;
    const { uniforms } = this.#binder;
    const place = uniforms.add(moe);
    // A layer that mixes nothing takes the residual stream through its own norm; what this one leaves is for the one behind.
    const nextNorm = getNextNorm(weights.plan, layer + 1);
    const attention = isMixing(plan) ? bindMixer(this.#binder, { plan, layer, moe, moeLayer: place }) : [];
    const mlp = plan.mlp ? this.#bindMlp(plan.mlp, moe) : [];
    if (moeLayers.includes(layer)) {
      return {
        // The shared expert needs no page: it is done before the pass may stop.
        attention: [...attention, ...this.#bindRouter(plan, layer, place), this.#bindOrder(place), ...mlp],
        experts: [],
        poolUniforms: uniforms.reserve(countPartStructs(manifest.config.moe) * this.parts.poolPartsPerLayer),
        combine: this.#bindCombine(nextNorm, place),
      };
    }
    return {
      attention,
      experts: [same(this.#binder.bindNorm(plan.gate, moe, state.expertInput, this.#binder.shadowOffset)), ...mlp],
      poolUniforms: 0,
      combine: this.#binder.bindNorm(nextNorm, moe, state.x, 0),
    };
  }

  /** Of a recurrent router first the state that it scores experts by. */
  #bindRouter({ gate, routerInput }: LayerWeightPlan, layer: number, moeLayer: BindingResource): Step[] {
    const { manifest, kernels, weights, state, pageTable, step } = this.parts;
    const { control, residual, routeIds, routeWeights, expertInput: x, routerStates: states } = state;
    const shared = { moeLayer, step, residual, control, x, states };
    const [cell, { stateWidth }] = [weights.plan.routerCell, manifest.config.moe.router];
    const choice = { ...shared, gate: weights.getBuffer(gate), pageTable, routeIds, routeWeights };
    const router = same(kernels.getRouterTopk(getRouterInput(manifest.config.moe, layer)).bind(choice));
    if (stateWidth === null || !routerInput || !cell) return [router];
    const own = { ...shared, input: weights.getBuffer(routerInput), cell: weights.getBuffer(cell) };
    return [same(kernels.getRouterState(stateWidth).bind(own)), router];
  }

  /** Tiles alone need the router's choices sorted. */
  #bindOrder(moeLayer: BindingResource): Step {
    const { kernels, state, step } = this.parts;
    const { routeIds, routeOrder: order, routeTiles: tiles } = state;
    const buffers = { moeLayer, step, routeIds, order, tiles };
    return { rows: () => {}, tiles: bindLate(() => kernels.tiles.get().routeOrder.bind(buffers)) };
  }

  /** residual += down(silu(gate x) * up x), x the experts' input. */
  #bindMlp(mlp: MlpWeightPlan, moe: number): Step[] {
    const { kernels, weights, state } = this.parts;
    const { control, expertInput: x, mlpAct: act } = state;
    const width = mlp.down.cols;
    const products = [mlp.gateUp, mlp.factor].flatMap((matrix) => matrix ?? []);
    const scale = this.#binder.getOptional(mlp.scale);
    return [
      ...listMlpForms(mlp).map((form, i) => {
        const matrix = products[i] as MatrixPlan;
        const shape = this.#binder.uniforms.add(width, matrix.cols / 32, moe);
        const buffers = { shape, weights: weights.getBuffer(matrix), x, scale, act, control };
        return same(kernels.getMlpGateUp(form).bind(buffers, width));
      }),
      this.#binder.bindAddition(mlp.down, null, act, moe),
    ];
  }

  #bindCombine(norm: MatrixPlan, moeLayer: BindingResource): Command {
    const { kernels, weights, state, step } = this.parts;
    const { control, x, residual, routeWeights, expertOutputs: outputs } = state;
    const buffers = { moeLayer, step, outputs, routeWeights, residual, norm: weights.getBuffer(norm), x, control };
    return kernels.combineNorm.bind(buffers);
  }
}

/** What the residual stream goes through before the first layer from `layer` on that mixes positions, or before the head. */
function getNextNorm({ layers, outputNorm }: WeightPlan, layer: number): MatrixPlan {
  return layers.slice(layer).find(({ attnNorm }) => attnNorm)?.attnNorm ?? outputNorm;
}
