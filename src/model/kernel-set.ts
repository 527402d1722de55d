/**
 * The kernels that one model needs, compiled once, each form of a kernel its own pipeline.
 * Owns the choice of what to compile; never binds buffers.
 */
import type { ModelManifest } from '../checkpoint/manifest';
import {
  type ConvolutionConfig,
  getRouterInput,
  hasVariableCount,
  type LatentConfig,
  type Mixer,
  type RouterInput,
  type WeightType,
} from '../checkpoint/model-config';
import { assert } from '../errors';
import type { GpuDevice } from '../gpu/device';
import { type AdjustLogits, compileAdjustLogits } from '../kernels/adjust-logits';
import { type Attention, type AttentionSpec, compileAttention } from '../kernels/attention';
import { type CombineNorm, compileCombineNorm } from '../kernels/combine-norm';
import { compileEmbedNorm, type EmbedNorm } from '../kernels/embed-norm';
import { compileExpertDown, type ExpertDown } from '../kernels/expert-down';
import { compileExpertGateUp, type ExpertGateUp } from '../kernels/expert-gate-up';
import { compileHeadMatvec, type HeadMatvec } from '../kernels/head-matvec';
import { compileLatentRope, type LatentRope } from '../kernels/latent-rope';
import { compileMatvec, type Matvec } from '../kernels/matvec';
import { compileMlpGateUp, type MlpGateUp, type MlpGateUpSpec } from '../kernels/mlp-gate-up';
import { compileNorm, type Norm } from '../kernels/norm';
import { compileQkNormRope, type QkNormRope } from '../kernels/qk-norm-rope';
import { compileRouterState, type RouterState } from '../kernels/router-state';
import { compileRouterTopk, type RouterTopk } from '../kernels/router-topk';
import { compileSampleToken, type SampleToken } from '../kernels/sample-token';
import { compileShortConv, type ShortConv } from '../kernels/short-conv';
import type { Variant } from '../kernels/variant';
import { createCompileProgress } from './compile-progress';
import { listProducts, type ProductForm } from './products';
import { getCacheLength, type StateShape } from './run-state';
import {
  compileTileKernels,
  getAttentionSpec,
  LateTileKernels,
  listAttentionMixers,
  listExpertForms,
} from './tile-kernels';
import { type LatentWeightPlan, listMatrices, type MlpWeightPlan, type WeightPlan } from './weights';

/** A product head by head, and whether it reads what attention leaves. */
export type HeadForm = Pick<ProductForm, 'type' | 'ofAttention'>;

export interface KernelSet {
  readonly embedNorm: EmbedNorm;
  /** y (+)= scale (W x + bias) */
  getMatvec(form: ProductForm): Matvec;
  getQkNormRope(mixer: Mixer): QkNormRope;
  getAttention(mixer: Mixer): Attention;
  /** Whether attention row by row leaves its spans for the product behind it to add up. */
  readonly splitsAttention: boolean;
  /** Of latent attention. */
  getHeadMatvec(form: HeadForm): HeadMatvec;
  getLatentRope(rank: number): LatentRope;
  /** Of the latent that queries are made of. */
  getQueryNorm(rank: number): Norm;
  getShortConv(taps: number): ShortConv;
  readonly norm: Norm;
  getMlpGateUp(form: MlpForm): MlpGateUp;
  getRouterTopk(input: RouterInput): RouterTopk;
  getRouterState(stateWidth: number): RouterState;
  getExpertGateUp(type: WeightType, isFactor: boolean): ExpertGateUp;
  getExpertDown(type: WeightType): ExpertDown;
  readonly combineNorm: CombineNorm;
  readonly adjustLogits: AdjustLogits;
  readonly sampleToken: SampleToken;
  /** Not compiled with the others. */
  readonly tiles: LateTileKernels;
}

/** What tells one pipeline of a dense MLP's products from another. */
export type MlpForm = Pick<MlpGateUpSpec, 'type' | 'isScaled'> & { readonly isFactor: boolean };

/** Gate and up, and the factor where there is one. */
export function listMlpForms({ gateUp, factor, scale }: MlpWeightPlan): MlpForm[] {
  const form = { type: gateUp.type, isScaled: scale !== null, isFactor: false };
  return factor ? [form, { type: factor.type, isScaled: false, isFactor: true }] : [form];
}

/** @param onProgress pipelines compiled so far, and in all. */
export async function compileKernels(
  device: GpuDevice,
  variant: Variant,
  manifest: ModelManifest,
  weights: WeightPlan,
  state: StateShape,
  onProgress: (done: number, total: number) => void,
): Promise<KernelSet> {
  const { config, pageLayouts } = manifest;
  const { hiddenSize, norm, moe, vocabSize, residualScale, attention, convolution } = config;
  const { latent } = attention;
  const rowsCapacity = state.rows;
  const { track, byForm } = createCompileProgress(onProgress);
  const getLayerForm = (mixer: Mixer): AttentionSpec => getAttentionSpec(config, state, mixer);
  const splitsAttention = variant.attentionSpans > 1;
  // One pipeline for both where attention leaves a row as any other kernel does.
  const getInput = <T extends HeadForm>({ ofAttention, ...form }: T) => ({
    ...form,
    spansOf: splitsAttention && ofAttention ? attention : null,
  });
  const mlps = weights.layers.flatMap(({ mlp }) => mlp ?? []);
  const embedding = listMatrices(weights)[0];
  assert(embedding, 'there is an embedding');
  const compileMlp = (form: MlpForm) => compileMlpGateUp(device, variant, { ...form, rowsCapacity });
  const [
    embedNorm,
    getMatvec,
    getQkNormRope,
    getAttention,
    getHeadMatvec,
    getLatentRope,
    getQueryNorm,
    getShortConv,
    normKernel,
    getMlpGateUp,
    getRouterTopk,
    getRouterState,
    getExpertGateUp,
    getExpertDown,
    combineNorm,
    adjustLogits,
    sampleToken,
  ] = await Promise.all([
    track(
      compileEmbedNorm(device, variant, {
        type: embedding.type,
        hiddenSize,
        norm,
        embeddingScale: config.embeddingScale,
      }),
    ),
    byForm(
      listProducts(weights, config).map(({ form }) => getInput(form)),
      (form) => compileMatvec(device, variant, form),
    ),
    byForm(latent ? [] : listAttentionMixers(config), (mixer) =>
      compileQkNormRope(device, variant, { ...getLayerForm(mixer), epsilon: norm.epsilon }),
    ),
    byForm(listAttentionMixers(config), (mixer) => compileAttention(device, variant, getLayerForm(mixer))),
    byForm(
      weights.layers.flatMap(({ latent: own }) => (own ? listHeadForms(own).map(getInput) : [])),
      (form) => compileHeadMatvec(device, variant, form),
    ),
    byForm(latent ? [latent.rank] : [], () =>
      compileLatentRope(device, variant, {
        attention,
        latent: latent as LatentConfig,
        cacheLength: getCacheLength(config, state, 0),
        kvType: state.kvType,
      }),
    ),
    // It has no shadow half: nothing reads these rows before they are written again.
    byForm(latent?.queryRank ? [latent.queryRank] : [], (rank) =>
      compileNorm(device, variant, {
        hiddenSize: rank,
        norm: { kind: 'rms', epsilon: (latent as LatentConfig).epsilon },
        rowsCapacity: 0,
      }),
    ),
    byForm(convolution ? [convolution.taps] : [], () =>
      compileShortConv(device, variant, {
        hiddenSize,
        convolution: convolution as ConvolutionConfig,
        cacheLength: getCacheLength(config, state, config.mixers.indexOf('convolution')),
      }),
    ),
    track(compileNorm(device, variant, { hiddenSize, norm, rowsCapacity })),
    byForm(mlps.flatMap(listMlpForms), compileMlp),
    byForm(
      config.moeLayers.map((layer) => getRouterInput(moe, layer)),
      (input) => compileRouterTopk(device, variant, { moe, hiddenSize, norm, rowsCapacity, input }),
    ),
    byForm(moe.router.stateWidth === null ? [] : [moe.router.stateWidth], (stateWidth) =>
      compileRouterState(device, variant, { hiddenSize, stateWidth, norm, rowsCapacity }),
    ),
    byForm(listExpertForms(manifest), (form) =>
      compileExpertGateUp(device, variant, { ...form, moe, hiddenSize, rowsCapacity }),
    ),
    byForm(
      pageLayouts.map((page) => page.downProj.type),
      (type) => compileExpertDown(device, variant, { type, moe, hiddenSize }),
    ),
    track(
      compileCombineNorm(device, variant, {
        hiddenSize,
        expertsPerToken: moe.expertsPerToken,
        isVariable: hasVariableCount(moe.router),
        norm,
        residualScale,
        rowsCapacity,
      }),
    ),
    track(compileAdjustLogits(device, variant, { vocabSize, capacity: state.changedLogits })),
    track(compileSampleToken(device, variant, vocabSize)),
  ]);
  return {
    embedNorm,
    getMatvec: (form) => getMatvec(getInput(form)),
    getQkNormRope,
    getAttention,
    splitsAttention,
    getHeadMatvec: (form) => getHeadMatvec(getInput(form)),
    getLatentRope,
    getQueryNorm,
    getShortConv,
    norm: normKernel,
    getMlpGateUp,
    getRouterTopk,
    getRouterState,
    getExpertGateUp: (type, isFactor) => getExpertGateUp({ type, isFactor }),
    getExpertDown,
    combineNorm,
    adjustLogits,
    sampleToken,
    tiles: new LateTileKernels(() => compileTileKernels(device, variant, manifest, weights, state)),
  };
}

/** Of keys, which queries meet, and of values, which are made of what attention leaves, row by row or in tiles. */
function listHeadForms({ keyUp, valueUp }: LatentWeightPlan): HeadForm[] {
  return [
    { type: keyUp.type, ofAttention: false },
    { type: valueUp.type, ofAttention: true },
    { type: valueUp.type, ofAttention: false },
  ];
}
