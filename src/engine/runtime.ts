/**
 * A model on a GPU: everything that a pass needs, made once at load. Owns the GPU's memory; knows no prompt and no text.
 */
import type { ModelManifest } from '../checkpoint/manifest';
import { EngineError } from '../errors';
import { PageTable } from '../experts/page-table';
import { Pager } from '../experts/pager';
import { SlotPool } from '../experts/slot-pool';
import { type DeviceOptions, type GpuDevice, openDevice } from '../gpu/device';
import { type DeviceBuffer, GpuMemory } from '../gpu/memory';
import { chooseVariant, type Variant } from '../kernels/variant';
import { Forward } from '../model/forward';
import { compileKernels } from '../model/kernel-set';
import { createRunState, type RunState } from '../model/run-state';
import { listMatrices, loadWeights } from '../model/weights';
import type { VerifiedReader } from '../store/verified-reader';
import type { LoadProgress } from './engine';
import { type MemoryPlan, type MemoryRequest, planMemory } from './memory-plan';

export interface Runtime {
  readonly device: GpuDevice;
  readonly memory: GpuMemory;
  readonly manifest: ModelManifest;
  readonly plan: MemoryPlan;
  readonly variant: Variant;
  readonly state: RunState;
  readonly step: DeviceBuffer;
  readonly sampling: DeviceBuffer;
  readonly pager: Pager;
  readonly forward: Forward;
  destroy(): void;
}

/** @throws EngineError; nothing stays allocated. */
export async function createRuntime(
  manifest: ModelManifest,
  reader: VerifiedReader,
  deviceOptions: DeviceOptions,
  request: MemoryRequest,
  onProgress: (progress: LoadProgress) => void,
  signal?: AbortSignal,
): Promise<Runtime> {
  const device = await openDevice(deviceOptions);
  try {
    return await fillDevice(device, manifest, reader, request, onProgress, signal);
  } catch (error) {
    device.destroy();
    throw device.getError() ?? error;
  }
}

async function fillDevice(
  device: GpuDevice,
  manifest: ModelManifest,
  reader: VerifiedReader,
  request: MemoryRequest,
  onProgress: (progress: LoadProgress) => void,
  signal?: AbortSignal,
): Promise<Runtime> {
  const { config, pageLayouts } = manifest;
  const bindingBytes = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize);
  const plan = planMemory(manifest, { bindingBytes }, request);
  if (plan.warning) onProgress({ phase: 'warning', message: plan.warning });

  const memory = new GpuMemory(device, plan.totalBytes);
  const [weightBuffers, stateBuffers, [pageTableBuffer], [constants, step, sampling], slotBuffers] = [
    await memory.allocate(plan.requests.weights),
    await memory.allocate(plan.requests.state),
    await memory.allocate([plan.requests.pageTable]),
    await memory.allocate(plan.requests.uniforms),
    await memory.allocate(plan.requests.slots),
  ] as [DeviceBuffer[], DeviceBuffer[], [DeviceBuffer], [DeviceBuffer, DeviceBuffer, DeviceBuffer], DeviceBuffer[]];

  const variant = chooseVariant(device.traits);
  const kernels = await compileKernels(
    device,
    variant,
    manifest,
    plan.weights,
    plan.state.contextLength,
    (done, total) => onProgress({ phase: 'compile', done, total }),
  );
  throwIfAborted(signal);

  const pool = new SlotPool(device, pageLayouts, plan.slotsPerLayer, bindingBytes, slotBuffers);
  const pageTable = new PageTable(device, pageTableBuffer, config.moe.experts);
  const pager = new Pager(config.moeLayers.length, config.moe.experts, pool, pageTable, (key) => reader.read(key));

  let doneBytes = 0;
  const totalBytes =
    listMatrices(plan.weights).reduce((sum, matrix) => sum + matrix.sizeBytes, 0) +
    pageLayouts.reduce((sum, page) => sum + page.pageBytes * plan.slotsPerLayer, 0);
  const advance = (bytes: number): void => {
    doneBytes += bytes;
    onProgress({ phase: 'weights', doneBytes, totalBytes });
    throwIfAborted(signal);
  };
  const weights = await loadWeights(device, plan.weights, weightBuffers, (key) => reader.read(key), advance);
  // Fill the slots: with a full budget that is every page; with a smaller one it spares the first tokens some faults.
  const first = Array.from({ length: plan.slotsPerLayer }, (_, expert) => expert);
  for (const moeLayer of pageLayouts.keys()) advance(await pager.ensure(moeLayer, first));

  const state = createRunState(device, config, plan.state, stateBuffers);
  const forward = new Forward({
    device,
    manifest,
    kernels,
    weights,
    state,
    pool,
    pageTable: pageTable.buffer,
    constants,
    step,
    sampling,
  });
  return {
    device,
    memory,
    manifest,
    plan,
    variant,
    state,
    step,
    sampling,
    pager,
    forward,
    destroy() {
      memory.freeAll();
      device.destroy();
    },
  };
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new EngineError('ABORTED', 'aborted by the caller', { cause: signal.reason });
}
