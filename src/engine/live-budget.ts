/**
 * Changes the number of expert slots of a loaded model, between two passes. Owns the order of freeing and allocating:
 * page group by page group, so that memory never exceeds the larger of the two plans.
 */
import { listGroupLayers } from '../checkpoint/model-config';
import { EngineError } from '../errors';
import { getGroupPoolRequests } from '../experts/slot-pool';
import type { ExpertBudget, ExpertBudgetChange } from './engine';
import { type MemoryPlan, planMemory } from './memory-plan';
import type { Runtime } from './runtime';

/**
 * Staging buffers come with the first slot that is missing, and go with the last.
 * @throws EngineError `BUDGET_TOO_SMALL`, `BAD_ARGUMENT` before anything changes; `DEVICE_LOST`.
 */
export async function changeExpertBudget(runtime: Runtime, expertBudget: ExpertBudget): Promise<ExpertBudgetChange> {
  const before = runtime.plan;
  const plan = planMemory(
    runtime.manifest,
    { bindingBytes: before.bindingBytes },
    { ...runtime.request, expertBudget, contextLength: before.state.contextLength },
  );
  runtime.memory.plannedBytes = Math.max(before.totalBytes, plan.totalBytes);
  let { warning } = plan;
  try {
    if (plan.requests.staging.length === 0) await setStaging(runtime, plan);
    await resizeLayers(runtime, plan.slotsPerLayer);
    await setStaging(runtime, plan);
    runtime.plan = plan;
  } catch (error) {
    if (!(error instanceof EngineError) || error.code !== 'OUT_OF_GPU_MEMORY') throw error;
    // The last good size did fit a moment ago.
    await resizeLayers(runtime, before.slotsPerLayer);
    await setStaging(runtime, before);
    warning = `the GPU has no room for ${plan.slotsPerLayer} slots per layer; back to ${before.slotsPerLayer}: ${error.message}`;
  }
  runtime.memory.plannedBytes = runtime.plan.totalBytes;
  return { slotsPerLayer: runtime.plan.slotsPerLayer, plannedGpuBytes: runtime.plan.totalBytes, warning };
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
