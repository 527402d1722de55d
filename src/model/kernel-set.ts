/**
 * The kernels that one model needs, compiled once, each form of a kernel its own pipeline.
 * Owns the choice of what to compile; never binds buffers.
 */
import type { ModelManifest } from '../checkpoint/manifest';
import type { Mixer, WeightType } from '../checkpoint/model-config';
import { assert } from '../errors';
import type { GpuDevice } from '../gpu/device';
import { type AdjustLogits, compileAdjustLogits } from '../kernels/adjust-logits';
import { type Attention, type AttentionSpec, compileAttention } from '../kernels/attention';
import { type CombineNorm, compileCombineNorm } from '../kernels/combine-norm';
import { compileEmbedNorm, type EmbedNorm } from '../kernels/embed-norm';
import { compileExpertDown, type ExpertDown } from '../kernels/expert-down';
import { compileExpertGateUp, type ExpertGateUp } from '../kernels/expert-gate-up';
import { compileMatvec, type Matvec } from '../kernels/matvec';
import { compileMlpGateUp, type MlpGateUp } from '../kernels/mlp-gate-up';
import { compileNorm, type Norm } from '../kernels/norm';
import { compileQkNormRope, type QkNormRope } from '../kernels/qk-norm-rope';
import { compileRouterTopk, type RouterTopk } from '../kernels/router-topk';
import { compileSampleToken, type SampleToken } from '../kernels/sample-token';
import type { Variant } from '../kernels/variant';
import { createCompileProgress } from './compile-progress';
import type { StateShape } from './run-state';
import { compileTileKernels, getAttentionSpec, LateTileKernels } from './tile-kernels';
import { listMatrices, listProducts, type MlpWeightPlan, type ProductForm, type WeightPlan } from './weights';

export interface KernelSet {
  readonly embedNorm: EmbedNorm;
  /** y (+)= scale (W x + bias) */
  getMatvec(form: ProductForm): Matvec;
  getQkNormRope(mixer: Mixer): QkNormRope;
  getAttention(mixer: Mixer): Attention;
  readonly norm: Norm;
  getMlpGateUp(mlp: MlpWeightPlan): MlpGateUp;
  readonly routerTopk: RouterTopk;
  getExpertGateUp(type: WeightType): ExpertGateUp;
  getExpertDown(type: WeightType): ExpertDown;
  readonly combineNorm: CombineNorm;
  readonly adjustLogits: AdjustLogits;
  readonly sampleToken: SampleToken;
  /** Not compiled with the others. */
  readonly tiles: LateTileKernels;
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
  const { hiddenSize, norm, moe, vocabSize, residualScale, mixers } = config;
  const rowsCapacity = state.rows;
  const { track, byForm } = createCompileProgress(onProgress);
  const getLayerForm = (mixer: Mixer): AttentionSpec => getAttentionSpec(config, state, mixer);
  const getMlpForm = ({ gateUp, scale }: MlpWeightPlan) => ({ type: gateUp.type, isScaled: scale !== null });
  const mlps = weights.layers.flatMap(({ mlp }) => mlp ?? []);
  const embedding = listMatrices(weights)[0];
  assert(embedding, 'there is an embedding');
  const compileMlp = (form: ReturnType<typeof getMlpForm>) =>
    compileMlpGateUp(device, variant, { ...form, rowsCapacity });
  const [
    embedNorm,
    getMatvec,
    getQkNormRope,
    getAttention,
    normKernel,
    getMlpGateUp,
    routerTopk,
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
      listProducts(weights, config).map(({ form }) => form),
      (form) => compileMatvec(device, variant, form),
    ),
    byForm(mixers, (mixer) => compileQkNormRope(device, variant, { ...getLayerForm(mixer), epsilon: norm.epsilon })),
    byForm(mixers, (mixer) => compileAttention(device, variant, getLayerForm(mixer))),
    track(compileNorm(device, variant, { hiddenSize, norm, rowsCapacity })),
    byForm(mlps.map(getMlpForm), compileMlp),
    track(compileRouterTopk(device, variant, { moe, hiddenSize, norm, rowsCapacity })),
    byForm(
      pageLayouts.map((page) => page.gateProj.type),
      (type) => compileExpertGateUp(device, variant, { type, moe, hiddenSize, rowsCapacity }),
    ),
    byForm(
      pageLayouts.map((page) => page.downProj.type),
      (type) => compileExpertDown(device, variant, { type, moe, hiddenSize }),
    ),
    track(
      compileCombineNorm(device, variant, {
        hiddenSize,
        expertsPerToken: moe.expertsPerToken,
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
    getMatvec,
    getQkNormRope,
    getAttention,
    norm: normKernel,
    getMlpGateUp: (mlp) => getMlpGateUp(getMlpForm(mlp)),
    routerTopk,
    getExpertGateUp,
    getExpertDown,
    combineNorm,
    adjustLogits,
    sampleToken,
    tiles: new LateTileKernels(() => compileTileKernels(device, variant, manifest, weights, state)),
  };
}
