/**
 * Tells what a model has on the GPU whenever that changes without a token. Owns which runtime is watched; never changes it.
 */
import { describeRuntime } from './describe-model';
import { Listeners } from './listeners';
import { type MemoryEvent, NOTHING_ON_GPU } from './memory-event';
import type { Runtime } from './runtime';

export class MemoryWatch {
  readonly listeners = new Listeners<MemoryEvent>();
  /** Null: nothing is on a GPU. */
  #runtime: Runtime | null = null;

  /** Something has changed on the GPU of this runtime, which may be a new one. */
  tell(cause: 'load' | 'budget' | 'restored', runtime: Runtime, message: string | null = null): void {
    if (this.#runtime !== runtime) {
      this.#runtime = runtime;
      void runtime.device.lost.then((loss) => {
        if (this.#runtime === runtime) this.listeners.tell({ cause: 'lost', message: loss.message, ...NOTHING_ON_GPU });
      });
    }
    const { slotsPerLayer, plannedGpuBytes, ...device } = describeRuntime(runtime);
    const { usedBytes: usedGpuBytes } = runtime.memory;
    const residency = getResidency(runtime);
    this.listeners.tell({ cause, message, slotsPerLayer, plannedGpuBytes, usedGpuBytes, device, residency });
  }

  /** To be called before the device is destroyed: that would be taken for a loss. */
  tellUnload(): void {
    if (!this.#runtime) return;
    this.#runtime = null;
    this.listeners.tell({ cause: 'unload', message: null, ...NOTHING_ON_GPU });
  }
}

/** [moeLayers, experts]: 0 absent, 1 resident. */
export function getResidency({ manifest, pager }: Runtime): Uint8Array<ArrayBuffer> {
  const { moeLayers, moe } = manifest.config;
  const pages = new Uint8Array(moeLayers.length * moe.experts);
  for (const moeLayer of moeLayers.keys()) {
    for (const expert of pager.getResidents(moeLayer)) pages[moeLayer * moe.experts + expert] = 1;
  }
  return pages;
}
