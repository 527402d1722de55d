/**
 * A call's hold on a loaded model's device, and what becomes of the model when that device is gone: its runtime is made anew on
 * another one. Owns what callers are told of it; never how often it is tried.
 */
import { getLeastSlots } from '../checkpoint/model-config';
import { EngineError } from '../errors';
import { describeRuntime } from './describe-model';
import type { LossHandler } from './device-loss';
import type { Loaded } from './loaded-model';
import type { MemoryWatch } from './memory-watch';
import { PassRunner } from './pass-runner';
import { getForm, isSameForm, type Runtime } from './runtime';

export class DeviceReplacement implements LossHandler {
  #used: Runtime;

  constructor(
    private readonly holder: Loaded,
    private readonly memoryWatch: MemoryWatch,
  ) {
    this.#used = holder.runtime;
  }

  /** Gives the runtime that the call's next attempt works with. */
  use(): Loaded {
    this.#used = this.holder.runtime;
    return this.holder;
  }

  readLoss(): Promise<EngineError | undefined> {
    return this.#used.device.readLoss();
  }

  async restore(shrink: boolean, signal?: AbortSignal): Promise<string | null> {
    const { holder } = this;
    const used = this.#used;
    // Another call may have had it made anew already.
    if (holder.runtime === used) await this.#replace(used, shrink, signal);
    return compareForms(used, holder.runtime);
  }

  async #replace(used: Runtime, shrink: boolean, signal: AbortSignal | undefined): Promise<void> {
    const { holder } = this;
    const before = used.plan.slotsPerLayer;
    const least = getLeastSlots(used.manifest.config.moe);
    used.destroy();
    const runtime = await this.#rebuild(shrink ? Math.max(least, before >> 1) : before, least, signal);
    holder.runtime = runtime;
    const change = compareForms(used, runtime);
    // Another adapter, or other kernels, would have computed other bits.
    if (change) holder.prefixes.clear();
    holder.runner = new PassRunner(runtime, holder.prefixes);
    holder.model = { ...holder.model, ...describeRuntime(runtime) };
    const { slotsPerLayer } = runtime.plan;
    const why = shrink ? 'after repeated losses of the device' : 'for lack of GPU memory';
    const fewer = slotsPerLayer < before ? `${why}, ${slotsPerLayer} slots per layer instead of ${before}` : [];
    const news = [fewer, change ? `the new device is ${change}` : []].flat();
    this.memoryWatch.tell('restored', runtime, news.join('; ') || null);
  }

  /** With half as many slots each time that the GPU has no room for them. */
  async #rebuild(slots: number, least: number, signal: AbortSignal | undefined): Promise<Runtime> {
    const { experts } = this.#used.manifest.config.moe;
    try {
      // Half a slot less: a share is rounded up to whole slots.
      return await this.holder.rebuild({ percent: ((slots - 0.5) * 100) / experts }, signal);
    } catch (error) {
      if (!(error instanceof EngineError) || error.code !== 'OUT_OF_GPU_MEMORY' || slots === least) throw error;
      return this.#rebuild(Math.max(least, slots >> 1), least, signal);
    }
  }
}

/** What the second has in the place of the first, for people; null: the same bits. */
function compareForms(before: Runtime, after: Runtime): string | null {
  return isSameForm(before, after) ? null : `${getForm(after)} instead of ${getForm(before)}`;
}
