/**
 * One GPU budget -> every buffer: weights, state, page table, slots. Pure: decides sizes, allocates nothing.
 * The plan is exact: the byte ledger refuses what is not in it.
 */
import type { ModelManifest } from '../checkpoint/manifest';
import { getLeastSlots, type ModelConfig } from '../checkpoint/model-config';
import { EngineError } from '../errors';
import { getPageTableRequest } from '../experts/page-table';
import { getPoolParts, getPoolRequests } from '../experts/slot-pool';
import { type BufferRequest, roundUp, sumBytes } from '../gpu/memory';
import { type KvType, kvChoices, kvTypes } from '../kernels/kv-type';
import { getForwardUniformBytes } from '../model/forward';
import { getStateRequests, getStateShape, type StateShape } from '../model/run-state';
import { getWeightRequests, planWeights, type WeightPlan } from '../model/weights';
import type { ExpertBudget } from './engine';

export interface MemoryLimits {
  /** Largest storage buffer that a kernel can bind. */
  readonly bindingBytes: number;
}

/** Those of a `GPUAdapter`'s or a device's limits that the plan goes by, in bytes. */
export interface BindingLimits {
  readonly maxStorageBufferBindingSize: number;
  readonly maxBufferSize: number;
}

export function getMemoryLimits({ maxStorageBufferBindingSize, maxBufferSize }: BindingLimits): MemoryLimits {
  return { bindingBytes: Math.min(maxStorageBufferBindingSize, maxBufferSize) };
}

export interface MemoryRequest {
  readonly expertBudget?: ExpertBudget | undefined;
  /** For everything on the GPU together. */
  readonly gpuBudgetBytes?: number | undefined;
  /** Tokens; default: the model's own. */
  readonly contextLength?: number | undefined;
  /** Default `f32`. */
  readonly kvType?: KvType | undefined;
  /** Buffers that pages are read into on their way to their slots; only where not every page has a slot. Default 0. */
  readonly stagingPages?: number | undefined;
}

export interface MemoryPlan {
  readonly weights: WeightPlan;
  readonly state: StateShape;
  readonly slotsPerLayer: number;
  /** Most buffers that a layer's slots can take. */
  readonly poolPartsPerLayer: number;
  readonly bindingBytes: number;
  readonly requests: {
    readonly weights: readonly BufferRequest[];
    readonly state: readonly BufferRequest[];
    readonly pageTable: BufferRequest;
    /** {constants, step, sampling} */
    readonly uniforms: readonly BufferRequest[];
    /** Of the largest page each; none where every page has a slot. */
    readonly staging: readonly BufferRequest[];
    readonly slots: readonly BufferRequest[];
  };
  /** Everything but the slots. */
  readonly fixedBytes: number;
  readonly totalBytes: number;
  /** What the user should know: runs, but slowly. */
  readonly warning: string | null;
}

/** @throws EngineError `BUDGET_TOO_SMALL`, `BAD_ARGUMENT`, `UNSUPPORTED` */
export function planMemory(manifest: ModelManifest, limits: MemoryLimits, request: MemoryRequest = {}): MemoryPlan {
  const { config, pageLayouts } = manifest;
  const contextLength = checkContext(request.contextLength ?? config.contextLength, config.contextLength);
  const largestPage = Math.max(...pageLayouts.map((page) => page.pageBytes));
  if (largestPage > limits.bindingBytes) {
    throw new EngineError(
      'UNSUPPORTED',
      `one expert takes ${largestPage} bytes, this adapter binds at most ${limits.bindingBytes}: use a smaller quantisation or another GPU`,
    );
  }
  const weights = planWeights(manifest, limits.bindingBytes);
  const state = getStateShape(config, contextLength, checkKvType(request.kvType ?? 'f32'));
  const poolRequests = (slots: number): BufferRequest[] => getPoolRequests(pageLayouts, slots, limits.bindingBytes);
  const poolPartsPerLayer = getPoolParts(config.moe.experts, largestPage, limits.bindingBytes).length;
  // The constants grow with the number of pool buffers; the most there can be keeps the plan independent of the slots.
  const uniforms: BufferRequest[] = [
    {
      label: 'constants',
      sizeBytes: getForwardUniformBytes(weights, config.moe, poolPartsPerLayer),
      kind: 'uniform',
    },
    { label: 'step', sizeBytes: 16, kind: 'uniform' },
    { label: 'sampling', sizeBytes: 32, kind: 'uniform' },
  ];
  const pageTable = getPageTableRequest(config.moeLayers.length, config.moe.experts);
  const fixed = { weights: getWeightRequests(weights), state: getStateRequests(config, state), pageTable, uniforms };
  const oversized = fixed.state.find((r) => r.sizeBytes > limits.bindingBytes);
  if (oversized) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `${oversized.label} needs a GPU binding of ${oversized.sizeBytes} bytes for a context of ${contextLength} tokens, this adapter allows ` +
        `${limits.bindingBytes}: ask for a shorter context`,
    );
  }
  const { experts, expertsPerToken } = config.moe;
  const plainBytes = sumBytes([...fixed.weights, ...fixed.state, pageTable, ...uniforms]);
  const plainSlots = chooseSlots(manifest, plainBytes, request);
  const wanted = getStagingRequests(request.stagingPages ?? 0, largestPage);
  const stagedSlots = Math.min(plainSlots, getAffordableSlots(manifest, plainBytes + sumBytes(wanted), request));
  // A budget that gives a token just what it needs has none to spare for speed.
  const isStaged = plainSlots < experts && stagedSlots >= getLeastSlots(config.moe);
  const staging = isStaged ? wanted : [];
  const fixedBytes = plainBytes + sumBytes(staging);
  const slotsPerLayer = isStaged ? stagedSlots : plainSlots;
  const slots = poolRequests(slotsPerLayer);
  const comfortable = Math.min(experts, 2 * expertsPerToken);
  return {
    weights,
    state,
    slotsPerLayer,
    poolPartsPerLayer,
    bindingBytes: limits.bindingBytes,
    requests: { ...fixed, staging, slots },
    fixedBytes,
    totalBytes: fixedBytes + sumBytes(slots),
    warning:
      slotsPerLayer < comfortable
        ? `${slotsPerLayer} slots per layer are fewer than ${comfortable}, twice the experts per token: nearly every token will wait for uploads`
        : null,
  };
}

/** Buffers between the store and the slots. */
export function getStagingRequests(pages: number, pageBytes: number): BufferRequest[] {
  return Array.from({ length: pages }, (_, i) => ({
    label: `staging ${i}`,
    sizeBytes: pageBytes,
    kind: 'staging' as const,
  }));
}

/** The smallest whole share of the experts that gives a token all it needs: a share is rounded up to whole slots. */
export function getSmallestPercent(moe: ModelConfig['moe']): number {
  return Math.floor(((getLeastSlots(moe) - 1) * 100) / moe.experts) + 1;
}

function chooseSlots(
  manifest: ModelManifest,
  fixedBytes: number,
  { expertBudget, gpuBudgetBytes }: MemoryRequest,
): number {
  const { experts } = manifest.config.moe;
  const least = getLeastSlots(manifest.config.moe);
  const slotBytes = getSlotBytes(manifest);
  const floorBytes = slotBytes * least;
  const floorPercent = getSmallestPercent(manifest.config.moe);

  let slots = experts;
  if (expertBudget) {
    const value = 'percent' in expertBudget ? expertBudget.percent : expertBudget.bytes;
    if (!Number.isFinite(value) || value < 0 || ('percent' in expertBudget && value > 100)) {
      throw new EngineError('BAD_ARGUMENT', `expert budget ${value} is out of range: give 0 to 100 %, or bytes`);
    }
    slots = 'percent' in expertBudget ? Math.ceil((value / 100) * experts) : Math.floor(value / slotBytes);
    slots = Math.min(slots, experts);
    if (slots < least) {
      throw new EngineError(
        'BUDGET_TOO_SMALL',
        `expert budget ${'percent' in expertBudget ? `${value}%` : `${value} bytes`} gives ${slots} slots per layer, a token needs ` +
          `${least}: the smallest budget is ${floorBytes} bytes or ${floorPercent}%`,
      );
    }
  }
  if (gpuBudgetBytes !== undefined) {
    const affordable = getAffordableSlots(manifest, fixedBytes, { gpuBudgetBytes });
    if (!Number.isFinite(gpuBudgetBytes) || affordable < least) {
      throw new EngineError(
        'BUDGET_TOO_SMALL',
        `a GPU budget of ${gpuBudgetBytes} bytes leaves ${Math.max(0, gpuBudgetBytes - fixedBytes)} for experts, the floor is ` +
          `${fixedBytes + floorBytes} bytes (${fixedBytes} for weights, cache and scratch, ${floorBytes} for ${least} slots ` +
          `per layer): raise the budget or shorten the context`,
      );
    }
    slots = Math.min(slots, affordable);
  }
  return slots;
}

/** Slots per layer that the budget leaves room for. */
function getAffordableSlots(manifest: ModelManifest, fixedBytes: number, { gpuBudgetBytes }: MemoryRequest): number {
  return gpuBudgetBytes === undefined
    ? Number.POSITIVE_INFINITY
    : Math.floor((gpuBudgetBytes - fixedBytes) / getSlotBytes(manifest));
}

/** Bytes of one slot in every layer. */
function getSlotBytes({ pageLayouts }: ModelManifest): number {
  return pageLayouts.reduce((sum, page) => sum + roundUp(page.pageBytes), 0);
}

function checkContext(contextLength: number, most: number): number {
  if (!Number.isInteger(contextLength) || contextLength < 2 || contextLength > most) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `context length ${contextLength} is out of range: 2 to ${most} tokens with this model`,
    );
  }
  return contextLength;
}

function checkKvType(kvType: KvType): KvType {
  if (!kvTypes.includes(kvType)) {
    throw new EngineError('BAD_ARGUMENT', `KV cache type "${kvType}" is unknown: give one of ${kvChoices.join(', ')}`);
  }
  return kvType;
}
