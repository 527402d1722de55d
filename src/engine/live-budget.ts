/**
 * Changes the number of expert slots of a loaded model, between two passes. Owns the order of freeing and allocating:
 * page group by page group, so that memory never exceeds the larger of the two plans.
 */
import { listGroupLayers } from '../checkpoint/model-config';
import { EngineError } from '../errors';
import { getGroupPoolRequests } from '../experts/slot-pool';
import { throwIfLost } from '../gpu/device';
import { retryThroughLosses } from './device-loss';
import type { DeviceReplacement } from './device-replacement';
import type { ExpertBudget, ExpertBudgetChange } from './engine';
import { type MemoryPlan, planMemory } from './memory-plan';
import type { Runtime } from './runtime';

/**
 * Changes the budget of a loaded model, on a new device where the one in use is lost, or has no room left for the slots that it had.
 * @throws EngineError `BUDGET_TOO_SMALL`, `BAD_ARGUMENT` before anything changes; `DEVICE_LOST`, and `OUT_OF_GPU_MEMORY` where
 * the GPU has no room at all: the next call tries again.
 */
export async function changeExpertBudget(
  device: DeviceReplacement,
  expertBudget: ExpertBudget,
): Promise<ExpertBudgetChange> {
  const change = () => resizeRuntime(device.use().runtime, expertBudget);
  const { plan, refusal, isBroken } = await retryThroughLosses(device, change);
  if (isBroken) await device.restore(false);
  const { slotsPerLayer, totalBytes: plannedGpuBytes } = device.use().runtime.plan;
  const instead = isBroken ? ', nor any more for those that there were; a new device has' : '; back to';
  const noRoom = `the GPU has no room for ${plan.slotsPerLayer} slots per layer${instead} ${slotsPerLayer}`;
  return { slotsPerLayer, plannedGpuBytes, warning: refusal ? `${noRoom}: ${refusal.message}` : plan.warning };
}

interface Resized {
  /** What was asked for. */
  readonly plan: MemoryPlan;
  /** Why the GPU has no room for it; null: it has. */
  readonly refusal: EngineError | null;
  /** Not even the slots that there were fit any more: layers are without slots. */
  readonly isBroken: boolean;
}

/** Staging buffers come with the first slot that is missing, and go with the last. */
async function resizeRuntime(runtime: Runtime, expertBudget: ExpertBudget): Promise<Resized> {
  throwIfLost(runtime.device);
  const before = runtime.plan;
  const plan = planMemory(
    runtime.manifest,
    { bindingBytes: before.bindingBytes },
    { ...runtime.request, expertBudget, contextLength: before.state.contextLength },
  );
  runtime.memory.plannedBytes = Math.max(before.totalBytes, plan.totalBytes);
  const refusal = await resize(runtime, plan);
  if (!refusal) runtime.plan = plan;
  // The last good size did fit a moment ago, unless others have taken its memory meanwhile.
  const isBroken = refusal !== null && (await resize(runtime, before)) !== null;
  runtime.memory.plannedBytes = runtime.plan.totalBytes;
  // A lost device takes everything and keeps nothing.
  throwIfLost(runtime.device);
  return { plan, refusal, isBroken };
}

/** @returns why the GPU has no room for it: what was freed is not there then. */
async function resize(runtime: Runtime, plan: MemoryPlan): Promise<EngineError | null> {
  try {
    if (plan.requests.staging.length === 0) await setStaging(runtime, plan);
    await resizeLayers(runtime, plan.slotsPerLayer);
    await setStaging(runtime, plan);
    return null;
  } catch (error) {
    if (error instanceof EngineError && error.code === 'OUT_OF_GPU_MEMORY') return error;
    throw error;
  }
}

async function setStaging({ memory, staging }: Runtime, { requests }: MemoryPlan): Promise<void> {
  const buffers = [...staging.buffers];
  if (buffers.length === requests.staging.length) return;
  staging.setBuffers([]);
  memory.free(buffers);
  staging.setBuffers(await memory.allocate(requests.staging));
}

async function resizeLayers({ memory, pool, pager, forward, manifest, plan }: Runtime, slots: number): Promise<void> {
  const { moeLayers, moe } = manifest.config;
  for (const group of manifest.pageLayouts.keys()) {
    if (pool.getSlots(group) === slots) continue;
    memory.free(pool.getParts(group).map((part) => part.buffer));
    pool.setGroup(group, 0, []);
    const requests = getGroupPoolRequests(manifest.pageLayouts, group, slots, plan.bindingBytes);
    pool.setGroup(group, slots, await memory.allocate(requests));
    await pager.refill(group, slots);
    for (const moeLayer of listGroupLayers(moe, group)) forward.bindExperts(moeLayers[moeLayer] as number);
  }
}
