/**
 * The kernels that one model needs, compiled once, each form of a kernel its own pipeline.
 * Owns the choice of what to compile; never binds buffers.
 */
import {
  type ConvolutionConfig,
  getRouterInput,
  hasVariableCount,
  type LatentConfig,
  type Mixer,
  type RouterInput,
} from '../checkpoint/model-config';
import { assert } from '../errors';
import { type AdjustLogits, compileAdjustLogits } from '../kernels/adjust-logits';
import { type Attention, type AttentionSpec, compileAttention } from '../kernels/attention';
import { type CombineNorm, compileCombineNorm } from '../kernels/combine-norm';
import { compileEmbedNorm, type EmbedNorm } from '../kernels/embed-norm';
import { compileLatentRope, type LatentRope } from '../kernels/latent-rope';
import { compileNorm, type Norm } from '../kernels/norm';
import { compileQkNormRope, type QkNormRope } from '../kernels/qk-norm-rope';
import { compileRouterState, type RouterState } from '../kernels/router-state';
import { compileRouterTopk, type RouterTopk } from '../kernels/router-topk';
import { compileSampleToken, type SampleToken } from '../kernels/sample-token';
import { compileShortConv, type ShortConv } from '../kernels/short-conv';
import type { Tuning } from '../kernels/tuning';
import { createCompileProgress } from './compile-progress';
import { compileRowProducts, type ProductsModel, type RowProducts } from './product-kernels';
import { getCacheLength } from './run-state';
import { compileTileKernels, getAttentionSpec, LateTileKernels, listAttentionMixers } from './tile-kernels';
import { listMatrices } from './weights';

export interface KernelSet extends RowProducts {
  readonly embedNorm: EmbedNorm;
  getQkNormRope(mixer: Mixer): QkNormRope;
  getAttention(mixer: Mixer): Attention;
  /** Whether attention row by row leaves its spans for the product behind it to add up. */
  readonly splitsAttention: boolean;
  getLatentRope(rank: number): LatentRope;
  /** Of the latent that queries are made of. */
  getQueryNorm(rank: number): Norm;
  getShortConv(taps: number): ShortConv;
  readonly norm: Norm;
  getRouterTopk(input: RouterInput): RouterTopk;
  getRouterState(stateWidth: number): RouterState;
  readonly combineNorm: CombineNorm;
  readonly adjustLogits: AdjustLogits;
  readonly sampleToken: SampleToken;
  /** Not compiled with the others. */
  readonly tiles: LateTileKernels;
}

/** @param onProgress pipelines compiled so far, and in all. */
export async function compileKernels(
  model: ProductsModel,
  tuning: Tuning,
  onProgress: (done: number, total: number) => void,
): Promise<KernelSet> {
  const { device, variant, manifest, weights, state } = model;
  const { config } = manifest;
  const { hiddenSize, norm, moe, vocabSize, residualScale, attention, convolution } = config;
  const { latent } = attention;
  const rowsCapacity = state.rows;
  const progress = createCompileProgress(onProgress);
  const { track, byForm } = progress;
  const getLayerForm = (mixer: Mixer): AttentionSpec => getAttentionSpec(config, state, mixer);
  const embedding = listMatrices(weights)[0];
  assert(embedding, 'there is an embedding');
  const [
    products,
    embedNorm,
    getQkNormRope,
    getAttention,
    getLatentRope,
    getQueryNorm,
    getShortConv,
    normKernel,
    getRouterTopk,
    getRouterState,
    combineNorm,
    adjustLogits,
    sampleToken,
  ] = await Promise.all([
    compileRowProducts(model, tuning, progress),
    track(
      compileEmbedNorm(device, variant, {
        type: embedding.type,
        hiddenSize,
        norm,
        embeddingScale: config.embeddingScale,
      }),
    ),
    byForm(latent ? [] : listAttentionMixers(config), (mixer) =>
      compileQkNormRope(device, variant, { ...getLayerForm(mixer), epsilon: norm.epsilon }),
    ),
    byForm(listAttentionMixers(config), (mixer) => compileAttention(device, variant, getLayerForm(mixer))),
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
    byForm(
      config.moeLayers.map((layer) => getRouterInput(moe, layer)),
      (input) => compileRouterTopk(device, variant, { moe, hiddenSize, norm, rowsCapacity, input }),
    ),
    byForm(moe.router.stateWidth === null ? [] : [moe.router.stateWidth], (stateWidth) =>
      compileRouterState(device, variant, { hiddenSize, stateWidth, norm, rowsCapacity }),
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
    ...products,
    embedNorm,
    getQkNormRope,
    getAttention,
    splitsAttention: variant.attentionSpans > 1,
    getLatentRope,
    getQueryNorm,
    getShortConv,
    norm: normKernel,
    getRouterTopk,
    getRouterState,
    combineNorm,
    adjustLogits,
    sampleToken,
    tiles: new LateTileKernels(() => compileTileKernels(model, tuning)),
  };
}
