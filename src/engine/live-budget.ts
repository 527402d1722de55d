/**
 * Changes the number of expert slots of a loaded model, between two passes. Owns the order of freeing and allocating:
 * layer by layer, so that memory never exceeds the larger of the two plans.
 */
import { EngineError } from '../errors';
import { getLayerPoolRequests } from '../experts/slot-pool';
import type { ExpertBudget, ExpertBudgetChange } from './engine';
import { planMemory } from './memory-plan';
import type { Runtime } from './runtime';

/**
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
    await resizeLayers(runtime, plan.slotsPerLayer);
    runtime.plan = plan;
  } catch (error) {
    if (!(error instanceof EngineError) || error.code !== 'OUT_OF_GPU_MEMORY') throw error;
    // The last good size did fit a moment ago.
    await resizeLayers(runtime, before.slotsPerLayer);
    warning = `the GPU has no room for ${plan.slotsPerLayer} slots per layer; back to ${before.slotsPerLayer}: ${error.message}`;
  }
  runtime.memory.plannedBytes = runtime.plan.totalBytes;
  return { slotsPerLayer: runtime.plan.slotsPerLayer, plannedGpuBytes: runtime.plan.totalBytes, warning };
}

async function resizeLayers({ memory, pool, pager, forward, manifest, plan }: Runtime, slots: number): Promise<void> {
  const { moeLayers } = manifest.config;
  for (const [moeLayer, layer] of moeLayers.entries()) {
    if (pool.getSlots(moeLayer) === slots) continue;
    memory.free(pool.getParts(moeLayer).map((part) => part.buffer));
    pool.setLayer(moeLayer, 0, []);
    const requests = getLayerPoolRequests(manifest.pageLayouts, moeLayer, slots, plan.bindingBytes);
    pool.setLayer(moeLayer, slots, await memory.allocate(requests));
    await pager.refill(moeLayer, slots);
    forward.bindExperts(layer);
  }
}
