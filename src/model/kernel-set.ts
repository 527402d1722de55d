/**
 * The kernels that one model needs, compiled once, each weight type of a kernel its own pipeline.
 * Owns the choice of what to compile; never binds buffers.
 */
import type { ModelManifest } from '../checkpoint/manifest';
import type { WeightType } from '../checkpoint/model-config';
import { assert } from '../errors';
import type { GpuDevice } from '../gpu/device';
import { type AdjustLogits, compileAdjustLogits } from '../kernels/adjust-logits';
import { type Attention, compileAttention } from '../kernels/attention';
import { type CombineNorm, compileCombineNorm } from '../kernels/combine-norm';
import { compileEmbedNorm, type EmbedNorm } from '../kernels/embed-norm';
import { compileExpertDown, type ExpertDown } from '../kernels/expert-down';
import { compileExpertGateUp, type ExpertGateUp } from '../kernels/expert-gate-up';
import { compileMatvec, type Matvec } from '../kernels/matvec';
import { compileQkNormRope, type QkNormRope } from '../kernels/qk-norm-rope';
import { compileRouterTopk, type RouterTopk } from '../kernels/router-topk';
import { compileSampleToken, type SampleToken } from '../kernels/sample-token';
import type { Variant } from '../kernels/variant';
import type { StateShape } from './run-state';
import { listMatrices, type WeightPlan } from './weights';

export interface KernelSet {
  readonly embedNorm: EmbedNorm;
  /** y = W x */
  getMatvec(type: WeightType): Matvec;
  /** y += W x */
  getMatvecAdd(type: WeightType): Matvec;
  readonly qkNormRope: QkNormRope;
  readonly attention: Attention;
  readonly routerTopk: RouterTopk;
  getExpertGateUp(type: WeightType): ExpertGateUp;
  getExpertDown(type: WeightType): ExpertDown;
  readonly combineNorm: CombineNorm;
  readonly adjustLogits: AdjustLogits;
  readonly sampleToken: SampleToken;
}

/** @param onProgress pipelines compiled so far, and in all. */
export async function compileKernels(
  device: GpuDevice,
  variant: Variant,
  manifest: ModelManifest,
  weights: WeightPlan,
  { contextLength, rows: rowsCapacity, changedLogits: capacity }: StateShape,
  onProgress: (done: number, total: number) => void,
): Promise<KernelSet> {
  const { hiddenSize, normEpsilon: epsilon, attention, moe, vocabSize } = manifest.config;
  let total = 0;
  let done = 0;
  const track = <T>(compile: Promise<T>): Promise<T> => {
    total++;
    return compile.then((kernel) => {
      onProgress(++done, total);
      return kernel;
    });
  };
  const byType = async <T>(types: Iterable<WeightType>, compile: (type: WeightType) => Promise<T>) => {
    const kernels = new Map(
      await Promise.all([...new Set(types)].map(async (type) => [type, await track(compile(type))] as const)),
    );
    return (type: WeightType): T => {
      const kernel = kernels.get(type);
      assert(kernel, `the kernel for ${type} is compiled`);
      return kernel;
    };
  };

  const adding = new Set(weights.layers.map((layer) => layer.oProj));
  const multiplied = [...weights.head, ...weights.layers.flatMap((layer) => layer.qkv)];
  const embedding = listMatrices(weights)[0];
  assert(embedding, 'there is an embedding');
  const [
    embedNorm,
    getMatvec,
    getMatvecAdd,
    qkNormRope,
    attentionKernel,
    routerTopk,
    getExpertGateUp,
    getExpertDown,
    combineNorm,
    adjustLogits,
    sampleToken,
  ] = await Promise.all([
    track(compileEmbedNorm(device, variant, { type: embedding.type, hiddenSize, epsilon })),
    byType(
      multiplied.map((matrix) => matrix.type),
      (type) => compileMatvec(device, variant, { type, accumulate: false }),
    ),
    byType(
      [...adding].map((matrix) => matrix.type),
      (type) => compileMatvec(device, variant, { type, accumulate: true }),
    ),
    track(compileQkNormRope(device, variant, { attention, contextLength, epsilon })),
    track(compileAttention(device, variant, { attention, contextLength })),
    track(compileRouterTopk(device, variant, { moe, hiddenSize, epsilon, rowsCapacity })),
    byType(
      manifest.pageLayouts.map((page) => page.gateProj.type),
      (type) => compileExpertGateUp(device, variant, { type, moe, hiddenSize, rowsCapacity }),
    ),
    byType(
      manifest.pageLayouts.map((page) => page.downProj.type),
      (type) => compileExpertDown(device, variant, { type, moe, hiddenSize }),
    ),
    track(
      compileCombineNorm(device, variant, { hiddenSize, expertsPerToken: moe.expertsPerToken, epsilon, rowsCapacity }),
    ),
    track(compileAdjustLogits(device, variant, { vocabSize, capacity })),
    track(compileSampleToken(device, variant, vocabSize)),
  ]);
  return {
    embedNorm,
    getMatvec,
    getMatvecAdd,
    qkNormRope,
    attention: attentionKernel,
    routerTopk,
    getExpertGateUp,
    getExpertDown,
    combineNorm,
    adjustLogits,
    sampleToken,
  };
}
