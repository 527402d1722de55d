/**
 * Every buffer that a pass writes: activations, KV cache, routes, control words, read-back. Owns sizes and shapes only.
 */
import type { ModelConfig } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import type { BufferRequest, DeviceBuffer } from '../gpu/memory';
import { getChangesWords } from '../kernels/adjust-logits';
import { getSpansWords } from '../kernels/attention';
import { getKvRowBytes, type KvType } from '../kernels/kv-type';
import { getMostTiles, TILE_WORDS } from '../kernels/route-order';
import { MOST_ATTENTION_SPANS } from '../kernels/variant';
import { computeRope } from './rope';

export interface StateShape {
  /** Tokens of the largest pass. */
  readonly rows: number;
  /** Positions of the KV cache. */
  readonly contextLength: number;
  /** What keys and values are stored as. */
  readonly kvType: KvType;
  /** Rows that the head can make logits of in one pass. */
  readonly logitRows: number;
  /** Most ids of one row whose logits a caller can change singly; a mask over all of them comes on top. */
  readonly changedLogits: number;
  /** Most tokens that can be drafted for one pass; 0: the state is too small to check any. */
  readonly draftTokens: number;
}

/** From this many tokens on, a chunk is computed in tiles. Fewer would leave most of a tile empty, and most experts unused. */
export const TILED_ROWS = 16;

/** Most tokens that are drafted for one pass. */
export const MOST_DRAFT_TOKENS = 8;

/** Words of the control buffer; see shaders/lib/control.wgsl. */
export const CONTROL = { faultLayer: 0, layersExecuted: 1, runAhead: 2, draft: 3, nextToken: 4 } as const;
export const NO_FAULT = 0xffffffff;
/** A token before this one, of the same submission, has faulted. */
export const ENDED = 0xfffffffe;

/** Largest logits buffer, unless one row is larger. */
const LOGITS_BYTES = 4 << 20;

/** Ids that a request may give a bias. */
export const MOST_BIASED_IDS = 1024;

/**
 * Tokens per prefill chunk: a function of the model alone, since the chunk is part of what makes a result.
 * Outputs per (token, rank) are kept apart, so the widest activation is [rows, expertsPerToken, hidden].
 */
export function getChunkRows(config: ModelConfig): number {
  const rowBytes = config.moe.expertsPerToken * config.hiddenSize * 4;
  return Math.min(256, Math.max(8, Math.floor((16 << 20) / rowBytes)));
}

export function getStateShape(config: ModelConfig, contextLength: number, kvType: KvType): StateShape {
  const rows = Math.min(getChunkRows(config), contextLength);
  const logitRows = Math.min(rows, Math.max(1, Math.floor(LOGITS_BYTES / (config.vocabSize * 4))));
  return {
    rows,
    contextLength,
    kvType,
    logitRows,
    // Every token of the context may be penalised, and as many more ids biased as callers have a use for.
    changedLogits: Math.min(config.vocabSize, contextLength + MOST_BIASED_IDS),
    draftTokens: Math.min(MOST_DRAFT_TOKENS, logitRows - 1),
  };
}

/**
 * Positions that a layer's cache holds. One that slides is a ring: what its window sees, and the rows of a pass, which are
 * all written before the first is read. It never grows, and a pass that is run again finds what it found.
 */
export function getCacheLength(config: ModelConfig, { contextLength, rows }: StateShape, layer: number): number {
  const { window } = config.attention;
  // The rows of a pass and the positions before them that its first row reads.
  if (config.mixers[layer] === 'convolution' && config.convolution) return rows + config.convolution.taps - 1;
  if (config.mixers[layer] !== 'sliding' || window === null) return contextLength;
  return Math.min(contextLength, window + rows);
}

/** Buffers of the state, by name; the KV cache has one pair per layer. */
export interface RunState {
  readonly tokens: DeviceBuffer; // [rows] u32
  readonly residual: DeviceBuffer; // [2, rows, hidden] f32: exact, shadow
  readonly x: DeviceBuffer; // [rows, hidden] f32: normed residual for qkv and the head
  readonly qkv: DeviceBuffer; // [rows, `getProjectionWidth`] f32: what the mixer makes of x
  readonly mixed: DeviceBuffer; // [rows, heads * headDim, heads * rank or hidden] f32: the mixer's output
  readonly attentionSpans: DeviceBuffer; // [rows of the widest pass row by row, `getSpansWords`] f32: attention's, span by span
  readonly latentQueries: DeviceBuffer; // [rows, heads, rank + rope dims] f32
  readonly headValues: DeviceBuffer; // [rows, heads * valueDim] f32
  readonly queryDown: DeviceBuffer; // [rows, queryRank] f32
  readonly queryLatent: DeviceBuffer; // [rows, queryRank] f32: behind its norm
  readonly expertInput: DeviceBuffer; // [2, rows, hidden] f32: normed residual for router and experts; exact, shadow
  readonly routerStates: DeviceBuffer; // [moeLayers, rows, stateWidth] f32, of a recurrent router
  readonly routeIds: DeviceBuffer; // [moeLayers, rows, expertsPerToken] u32
  readonly routeWeights: DeviceBuffer; // [moeLayers, rows, expertsPerToken] f32
  readonly routeOrder: DeviceBuffer; // [rows * expertsPerToken] u32: choices of one layer by expert
  readonly routeTiles: DeviceBuffer; // {expert, first, count} each, of one layer
  readonly act: DeviceBuffer; // [rows, expertsPerToken, expertWidth] f32
  readonly expertOutputs: DeviceBuffer; // [rows, expertsPerToken, hidden] f32
  readonly mlpAct: DeviceBuffer; // [rows, width of the widest dense MLP or shared expert] f32
  readonly headInput: DeviceBuffer; // [logitRows, hidden] f32
  readonly logits: DeviceBuffer; // [logitRows, vocab] f32
  readonly logitChanges: DeviceBuffer; // see shaders/adjust_logits.wgsl
  readonly adjustedLogits: DeviceBuffer; // [vocab] f32: one row of logits as the caller wants it
  readonly control: DeviceBuffer; // [CONTROL.nextToken + logitRows] u32
  readonly draftTokens: DeviceBuffer; // [1 + draftTokens] u32: the token given, then the drafted ones
  readonly draftRoutes: DeviceBuffer; // [draftTokens, moeLayers, expertsPerToken] u32
  readonly tokenFaults: DeviceBuffer; // [draftTokens] u32: the fault word behind each of several tokens in turn
  readonly draftScript: DeviceBuffer; // see model/draft.ts
  readonly rope: DeviceBuffer; // [context, rope dims / 2] of (cos, sin) f32
  readonly nothing: DeviceBuffer; // bound where a model has no such weights
  readonly readback: DeviceBuffer;
  readonly kCache: readonly DeviceBuffer[]; // per layer [kvHeads, cache length] rows of headDim values; of a convolution [cache length, hidden] f32
  readonly vCache: readonly DeviceBuffer[]; // likewise; empty where keys are values too, and of a convolution
}

/** Words of a step in a draft's script: rows, position, logits rows (the step uniform), position of the sampled token. */
export const SCRIPT_STEP_WORDS = 4;

/** Words of a draft's script: its steps, the exact pass, and what the control buffer starts with for either. Of exact tokens the steps. */
function getScriptWords(draftTokens: number): number {
  return (draftTokens + 1) * SCRIPT_STEP_WORDS + 2 * CONTROL.nextToken;
}

/** Values that a layer's mixer makes of a row: queries, keys and values, or what stands for them. */
export function getProjectionWidth({ attention, hiddenSize, mixers }: ModelConfig, layer: number): number {
  if (mixers[layer] === 'none') return 0;
  if (mixers[layer] === 'convolution') return 3 * hiddenSize;
  const { heads, kvHeads, headDim, latent, rope } = attention;
  return latent ? heads * (latent.plainDim + rope.dims) + headDim : (heads + 2 * kvHeads) * headDim;
}

type Named = Exclude<keyof RunState, 'kCache' | 'vCache'>;

function getSizes(config: ModelConfig, shape: StateShape): Record<Named, number> {
  const { rows, contextLength, logitRows, draftTokens, changedLogits } = shape;
  const { heads, headDim, latent } = config.attention;
  const layers = Array.from(config.mixers.keys());
  const hasConvolution = config.mixers.includes('convolution');
  const { expertsPerToken, expertWidth, shared } = config.moe;
  const hidden = rows * config.hiddenSize;
  const rowRoutes = config.moeLayers.length * expertsPerToken;
  const routes = rows * rowRoutes;
  const control = CONTROL.nextToken + logitRows;
  const logits = logitRows * config.vocabSize;
  const words: Record<Named, number> = {
    tokens: rows,
    residual: 2 * hidden,
    x: hidden,
    qkv: rows * Math.max(...layers.map((layer) => getProjectionWidth(config, layer))),
    mixed: rows * Math.max(heads * (latent?.rank ?? headDim), hasConvolution ? config.hiddenSize : 0),
    attentionSpans: Math.min(rows, TILED_ROWS - 1) * getSpansWords(config.attention, MOST_ATTENTION_SPANS),
    latentQueries: latent ? rows * heads * headDim : 1,
    headValues: latent ? rows * heads * latent.valueDim : 1,
    queryDown: latent?.queryRank ? rows * latent.queryRank : 1,
    queryLatent: latent?.queryRank ? rows * latent.queryRank : 1,
    expertInput: 2 * hidden,
    routerStates: Math.max(4, rows * config.moeLayers.length * (config.moe.router.stateWidth ?? 0)),
    routeIds: routes,
    routeWeights: routes,
    routeOrder: rows * expertsPerToken,
    routeTiles: getMostTiles(config.moe, rows) * TILE_WORDS,
    act: rows * expertsPerToken * expertWidth,
    expertOutputs: expertsPerToken * hidden,
    mlpAct: rows * Math.max(1, config.denseWidth ?? 0, shared?.width ?? 0),
    headInput: logitRows * config.hiddenSize,
    logits,
    logitChanges: getChangesWords({ vocabSize: config.vocabSize, capacity: changedLogits }),
    adjustedLogits: config.vocabSize,
    control,
    draftTokens: 1 + draftTokens,
    draftRoutes: draftTokens * rowRoutes,
    tokenFaults: Math.max(1, draftTokens),
    draftScript: getScriptWords(draftTokens),
    rope: contextLength * config.attention.rope.dims,
    nothing: 4,
    readback: control + routes + 1 + draftTokens * (2 + rowRoutes) + logits,
  };
  return Object.fromEntries(Object.entries(words).map(([name, count]) => [name, count * 4])) as Record<Named, number>;
}

/** Buffers to allocate for a state; `createRunState` takes them in this order. */
export function getStateRequests(config: ModelConfig, shape: StateShape): BufferRequest[] {
  const { kvHeads, headDim, latent } = config.attention;
  const getCacheBytes = (layer: number, isValue: boolean): number => {
    const length = getCacheLength(config, shape, layer);
    const isConvolution = config.mixers[layer] === 'convolution';
    if (config.mixers[layer] === 'none' || (isValue && (latent !== null || isConvolution))) return 4;
    return length * (isConvolution ? config.hiddenSize * 4 : kvHeads * getKvRowBytes(shape.kvType, headDim));
  };
  return [
    ...Object.entries(getSizes(config, shape)).map(
      ([label, sizeBytes]): BufferRequest => ({
        label,
        sizeBytes,
        kind: label === 'readback' ? 'readback' : 'storage',
      }),
    ),
    ...Array.from(
      { length: config.layers * 2 },
      (_, i): BufferRequest => ({
        label: `${i % 2 === 0 ? 'k' : 'v'} cache ${i >> 1}`,
        sizeBytes: getCacheBytes(i >> 1, i % 2 === 1),
        kind: 'storage',
      }),
    ),
  ];
}

/** @param ropeFactors the tensor of that role, where the model has it. */
export function createRunState(
  device: GpuDevice,
  config: ModelConfig,
  shape: StateShape,
  buffers: readonly DeviceBuffer[],
  ropeFactors: Float32Array | null,
): RunState {
  const names = Object.keys(getSizes(config, shape)) as Named[];
  const named = Object.fromEntries(names.map((name, i) => [name, buffers[i]])) as Record<Named, DeviceBuffer>;
  const caches = buffers.slice(names.length);
  device.handle.queue.writeBuffer(named.rope, 0, computeRope(config.attention.rope, shape.contextLength, ropeFactors));
  return {
    ...named,
    kCache: caches.filter((_, i) => i % 2 === 0),
    vCache: caches.filter((_, i) => i % 2 === 1),
  };
}
