/**
 * The kernels of a pass over many tokens, each in place of one of the `KernelSet`; what they do not replace they share.
 * Owns the choice of what to compile, and that it is compiled once; never binds buffers.
 */
import type { ModelManifest } from '../checkpoint/manifest';
import type { Mixer, ModelConfig, WeightType } from '../checkpoint/model-config';
import { assert } from '../errors';
import type { GpuDevice } from '../gpu/device';
import type { AttentionSpec } from '../kernels/attention';
import { type AttentionTiled, compileAttentionTiled } from '../kernels/attention-tiled';
import { compileExpertDownTiled, type ExpertDownTiled } from '../kernels/expert-down-tiled';
import { compileExpertGateUpTiled, type ExpertGateUpTiled } from '../kernels/expert-gate-up-tiled';
import { compileMatmul, type Matmul } from '../kernels/matmul';
import { compileRouteOrder, type RouteOrder } from '../kernels/route-order';
import type { Variant } from '../kernels/variant';
import { createCompileProgress } from './compile-progress';
import { listProducts } from './products';
import { getCacheLength, type StateShape } from './run-state';
import type { WeightPlan } from './weights';

export interface TileKernels {
  /** y (+)= scale (W x + bias) */
  getMatmul(type: WeightType): Matmul;
  getAttention(mixer: Mixer): AttentionTiled;
  /** Behind the router: sorts its choices for the experts' kernels. */
  readonly routeOrder: RouteOrder;
  getExpertGateUp(type: WeightType, isFactor: boolean): ExpertGateUpTiled;
  getExpertDown(type: WeightType): ExpertDownTiled;
}

/** Tile kernels that are compiled when a prompt needs them, or before, when there is time: short prompts never do. */
export class LateTileKernels {
  #kernels: TileKernels | null = null;
  #loading: Promise<void> | null = null;

  constructor(private readonly compile: () => Promise<TileKernels>) {}

  /**
   * Compiles them, once.
   * @throws EngineError `GPU_ERROR`
   */
  load(): Promise<void> {
    this.#loading ??= this.compile().then((kernels) => {
      this.#kernels = kernels;
    });
    return this.#loading;
  }

  /** Once `load` is through. */
  get(): TileKernels {
    assert(this.#kernels, 'the tile kernels are compiled');
    return this.#kernels;
  }
}

export async function compileTileKernels(
  device: GpuDevice,
  variant: Variant,
  manifest: ModelManifest,
  weights: WeightPlan,
  state: StateShape,
): Promise<TileKernels> {
  const { track, byForm } = createCompileProgress(() => {});
  const { config, pageLayouts } = manifest;
  const { hiddenSize, moe } = config;
  const [getMatmul, getAttention, routeOrder, getExpertGateUp, getExpertDown] = await Promise.all([
    byForm(
      listProducts(weights, config).map(({ form }) => form.type),
      (type) => compileMatmul(device, variant, type),
    ),
    byForm(listAttentionMixers(config), (mixer) =>
      compileAttentionTiled(device, variant, getAttentionSpec(config, state, mixer)),
    ),
    track(compileRouteOrder(device, variant, moe)),
    byForm(listExpertForms(manifest), (form) =>
      compileExpertGateUpTiled(device, variant, { ...form, moe, hiddenSize }),
    ),
    byForm(
      pageLayouts.map((page) => page.downProj.type),
      (type) => compileExpertDownTiled(device, variant, { type, moe, hiddenSize }),
    ),
  ]);
  return {
    getMatmul,
    getAttention,
    routeOrder,
    getExpertGateUp: (type, isFactor) => getExpertGateUp({ type, isFactor }),
    getExpertDown,
  };
}

/** Kernels of the experts' products but the last: gate and up, and the factor where there is one. A repetition per page group. */
export function listExpertForms({ pageLayouts }: ModelManifest): { type: WeightType; isFactor: boolean }[] {
  return pageLayouts.flatMap(({ upProj, factorProj }) => [
    { type: upProj.type, isFactor: false },
    ...(factorProj ? [{ type: factorProj.type, isFactor: true }] : []),
  ]);
}

/** Of the layers that have attention; a repetition per layer. */
export function listAttentionMixers({ mixers }: ModelConfig): Mixer[] {
  return mixers.filter((mixer) => mixer === 'full' || mixer === 'sliding');
}

/** What attention of a kind of layer is, in whichever form. */
export function getAttentionSpec(config: ModelConfig, state: StateShape, mixer: Mixer): AttentionSpec {
  return {
    attention: config.attention,
    slides: mixer === 'sliding',
    cacheLength: getCacheLength(config, state, config.mixers.indexOf(mixer)),
    kvType: state.kvType,
  };
}
