/**
 * The kernels of a pass over many tokens, each in place of one of the `KernelSet`; what they do not replace they share.
 * Owns the choice of what to compile, and that it is compiled once; never binds buffers.
 */
import type { Mixer, ModelConfig } from '../checkpoint/model-config';
import { assert } from '../errors';
import type { AttentionSpec } from '../kernels/attention';
import { type AttentionTiled, compileAttentionTiled } from '../kernels/attention-tiled';
import { compileRouteOrder, type RouteOrder } from '../kernels/route-order';
import type { Tuning } from '../kernels/tuning';
import { createCompileProgress } from './compile-progress';
import { compileTileProducts, type ProductsModel, type TileProducts } from './product-kernels';
import { getCacheLength, type StateShape } from './run-state';

export interface TileKernels extends TileProducts {
  getAttention(mixer: Mixer): AttentionTiled;
  /** Behind the router: sorts its choices for the experts' kernels. */
  readonly routeOrder: RouteOrder;
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

export async function compileTileKernels(model: ProductsModel, tuning: Tuning): Promise<TileKernels> {
  const { device, variant, manifest, state } = model;
  const { config } = manifest;
  const progress = createCompileProgress(() => {});
  const [products, getAttention, routeOrder] = await Promise.all([
    compileTileProducts(model, tuning, progress),
    progress.byForm(listAttentionMixers(config), (mixer) =>
      compileAttentionTiled(device, variant, getAttentionSpec(config, state, mixer)),
    ),
    progress.track(compileRouteOrder(device, variant, config.moe)),
  ]);
  return { ...products, getAttention, routeOrder };
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
