/** What mixes the positions of a layer, bound: residual += W mix(x). One function per kind of mixer. */
import type { LatentConfig, ModelConfig } from '../checkpoint/model-config';
import { assert } from '../errors';
import type { DeviceBuffer } from '../gpu/memory';
import type { BindingResource } from '../gpu/program';
import { bindLate, type Command } from '../kernels/command';
import { getProduct } from './products';
import { getProjectionWidth } from './run-state';
import { type Step, type StepBinder, same } from './steps';
import type { ConvolutionWeightPlan, LatentWeightPlan, MatrixPlan, MixingWeightPlan } from './weights';

/** A layer, as its steps need it. */
export interface LayerPlace {
  readonly plan: MixingWeightPlan;
  readonly layer: number;
  /** The MoE layer at or behind it: as a number, and as a uniform. */
  readonly moe: number;
  readonly moeLayer: BindingResource;
}

/** From the normed residual stream to its sum with what the layer's mixer makes of it. */
export function bindMixer(binder: StepBinder, place: LayerPlace): Step[] {
  const { state, manifest } = binder.parts;
  const { plan, moe } = place;
  const width = getProjectionWidth(manifest.config, place.layer);
  const projections = plan.qkv.map((part) =>
    binder.bindProduct(getProduct(part, plan.qkvBias), [state.x, state.qkv], [width, moe, 0]),
  );
  const { latent } = manifest.config.attention;
  if (plan.convolution) return [...projections, ...bindConvolution(binder, place, plan.convolution)];
  if (plan.latent && latent) return [...projections, ...bindLatent(binder, place, plan.latent, latent, width)];
  return [...projections, ...bindAttention(binder, place)];
}

function getCache({ parts: { state } }: StepBinder, layer: number): readonly [DeviceBuffer, DeviceBuffer] {
  const [kCache, vCache] = [state.kCache[layer], state.vCache[layer]];
  assert(kCache && vCache, `layer ${layer} has a cache`);
  return [kCache, vCache];
}

function getMixer(config: ModelConfig, layer: number): ModelConfig['mixers'][number] {
  const mixer = config.mixers[layer];
  assert(mixer, `layer ${layer} has a mixer`);
  return mixer;
}

/** residual += W attention(rope(norm(q)), cache) */
function bindAttention(binder: StepBinder, { plan, layer, moe, moeLayer }: LayerPlace): Step[] {
  const { manifest, kernels, state, step } = binder.parts;
  const { control, qkv, mixed, rope } = state;
  const mixer = getMixer(manifest.config, layer);
  const [kCache, vCache] = getCache(binder, layer);
  const norms = binder.getOptional(plan.qkNorms);
  const sinks = binder.getOptional(plan.sinks);
  const attention = { step, qkv, kCache, vCache, sinks };
  return [
    same(kernels.getQkNormRope(mixer).bind({ moeLayer, step, qkv, norms, rope, kCache, vCache, control })),
    {
      rows: kernels.getAttention(mixer).bind({ ...attention, out: binder.attentionOutput, moeLayer, control }),
      tiles: bindLate(() =>
        kernels.tiles
          .get()
          .getAttention(mixer)
          .bind({ ...attention, out: mixed }),
      ),
    },
    binder.bindAttentionOutput(plan, moe),
  ];
}

/**
 * Latent attention, absorbed: a head's query times its matrix of keys meets the cached latents themselves, and what it takes
 * of them becomes values behind the softmax (DeepSeek-V2, arXiv 2405.04434, section 2.1.2).
 */
function bindLatent(
  binder: StepBinder,
  { plan, layer, moe, moeLayer }: LayerPlace,
  weights: LatentWeightPlan,
  latent: LatentConfig,
  width: number,
): Step[] {
  const { manifest, kernels, state, step } = binder.parts;
  const { attention } = manifest.config;
  const { heads, headDim, rope: ropeConfig } = attention;
  const { control, qkv, mixed, rope, latentQueries: queries, headValues } = state;
  const [cache] = getCache(binder, layer);
  const mixer = getMixer(manifest.config, layer);
  const norm = binder.parts.weights.getBuffer(weights.kvNorm);
  const sinks = state.nothing;
  const buffers = { step, qkv: queries, kCache: cache, vCache: cache, sinks };
  const bindHeads = (
    matrix: MatrixPlan,
    from: { readonly x: DeviceBuffer; readonly stride: number; readonly head: number },
    to: { readonly y: DeviceBuffer; readonly stride: number; readonly head: number },
    ofAttention = false,
  ): Command => {
    const rows = matrix.rows / heads;
    const strides = [from.stride / 4, from.head / 4, to.stride, to.head];
    const shape = binder.uniforms.add(rows, matrix.cols / 32, heads, ...strides, moe);
    const own = { shape, weights: binder.parts.weights.getBuffer(matrix), x: from.x, y: to.y, control };
    return kernels.getHeadMatvec({ type: matrix.type, ofAttention }).bind(own, heads, rows);
  };
  const latents = { stride: heads * latent.rank, head: latent.rank };
  const values = { y: headValues, stride: heads * latent.valueDim, head: latent.valueDim };
  return [
    ...bindQueries(binder, weights, moe, width),
    same(
      bindHeads(
        weights.keyUp,
        { x: qkv, stride: width, head: latent.plainDim + ropeConfig.dims },
        { y: queries, stride: heads * headDim, head: headDim },
      ),
    ),
    same(
      kernels
        .getLatentRope(latent.rank)
        .bind({ moeLayer, step, projections: qkv, norm, rope, cache, queries, control }),
    ),
    {
      rows: kernels.getAttention(mixer).bind({ ...buffers, out: binder.attentionOutput, moeLayer, control }),
      tiles: bindLate(() =>
        kernels.tiles
          .get()
          .getAttention(mixer)
          .bind({ ...buffers, out: mixed }),
      ),
    },
    {
      rows: bindHeads(weights.valueUp, { x: binder.attentionOutput, ...latents }, values, true),
      tiles: bindHeads(weights.valueUp, { x: mixed, ...latents }, values),
    },
    binder.bindAddition(plan.oProj, plan.oBias, headValues, moe),
  ];
}

/** Queries by way of a latent of their own, where the model has one. */
function bindQueries(
  binder: StepBinder,
  { queryDown, queryNorm, queryUp }: LatentWeightPlan,
  moe: number,
  width: number,
): Step[] {
  if (!queryDown || !queryNorm || !queryUp) return [];
  const { kernels, state, weights } = binder.parts;
  const { control, x, qkv, queryDown: raw, queryLatent } = state;
  const place = binder.uniforms.add(moe, 0);
  const norm = weights.getBuffer(queryNorm);
  return [
    binder.bindProduct(getProduct(queryDown, null), [x, raw], [queryDown.rows, moe, 0]),
    same(kernels.getQueryNorm(queryDown.rows).bind({ place, residual: raw, norm, x: queryLatent, control })),
    binder.bindProduct(getProduct(queryUp, null), [queryLatent, qkv], [width, moe, 0]),
  ];
}

/** residual += W (C * convolution(B * x)) */
function bindConvolution(
  binder: StepBinder,
  { plan, layer, moe, moeLayer }: LayerPlace,
  weights: ConvolutionWeightPlan,
): Step[] {
  const { kernels, state, step, manifest } = binder.parts;
  const { control, qkv: projections, mixed: out } = state;
  const [cache] = getCache(binder, layer);
  const taps = binder.parts.weights.getBuffer(weights.taps);
  const bias = binder.getOptional(weights.bias);
  const kernel = kernels.getShortConv(manifest.config.convolution?.taps ?? 0);
  return [
    same(kernel.bind({ moeLayer, step, projections, taps, bias, cache, out, control })),
    binder.bindAddition(plan.oProj, plan.oBias, out, moe),
  ];
}
