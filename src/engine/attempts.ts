/**
 * One request that took several attempts, because the device was lost: what all of them cost together. Owns the sums; never
 * knows why an attempt ended. Counters are totals over decode, also here: of an attempt that was lost before its first token
 * only the time counts.
 */
import type { GenerateEvent, GenerateStats } from './engine';

export class Attempts {
  readonly #lost: { readonly prefillMs: number; readonly stats: GenerateStats | null }[] = [];

  /**
   * One attempt's events as they are, but that the statistics at the end are of all attempts.
   * @param readStats of this attempt so far
   */
  async *follow(
    events: AsyncIterable<GenerateEvent>,
    readStats: (measured: Pick<GenerateStats, 'generatedTokens' | 'prefillMs' | 'decodeMs'>) => GenerateStats,
  ): AsyncGenerator<GenerateEvent, void, undefined> {
    const startMs = performance.now();
    let firstTokenMs: number | null = null;
    let tokens = 0;
    try {
      for await (const event of events) {
        if (event.type === 'token') {
          firstTokenMs ??= performance.now();
          tokens++;
        }
        if (event.type !== 'done') yield event;
        else yield { ...event, result: { ...event.result, stats: this.#addTo(event.result.stats) } };
      }
    } catch (error) {
      const endMs = performance.now();
      const prefillMs = (firstTokenMs ?? endMs) - startMs;
      const measured = { generatedTokens: tokens, prefillMs, decodeMs: endMs - (firstTokenMs ?? endMs) };
      this.#lost.push({ prefillMs, stats: tokens > 0 ? readStats(measured) : null });
      throw error;
    }
  }

  #addTo(last: GenerateStats): GenerateStats {
    const prefillMs = this.#lost.reduce((sum, lost) => sum + lost.prefillMs, last.prefillMs);
    return this.#lost.reduce((sum, { stats }) => (stats ? add(sum, stats) : sum), { ...last, prefillMs });
  }
}

/** `sum` has the prefill times already. */
function add(sum: GenerateStats, lost: GenerateStats): GenerateStats {
  const byLayer = sum.byLayer.map(({ needed, present, faults }, layer) => {
    const before = lost.byLayer[layer] ?? { needed: 0, present: 0, faults: 0 };
    return { needed: needed + before.needed, present: present + before.present, faults: faults + before.faults };
  });
  const needed = byLayer.reduce((total, layer) => total + layer.needed, 0);
  const present = byLayer.reduce((total, layer) => total + layer.present, 0);
  return {
    ...sum,
    decodeMs: sum.decodeMs + lost.decodeMs,
    hitRate: needed === 0 ? 1 : present / needed,
    faultingLayers: sum.faultingLayers + lost.faultingLayers,
    roundTrips: sum.roundTrips + lost.roundTrips,
    submits: sum.submits + lost.submits,
    layersExecuted: sum.layersExecuted + lost.layersExecuted,
    uploadBytes: addFields(sum.uploadBytes, lost.uploadBytes),
    draft: {
      ...sum.draft,
      proposed: sum.draft.proposed + lost.draft.proposed,
      accepted: sum.draft.accepted + lost.draft.accepted,
      passes: sum.draft.passes + lost.draft.passes,
      sources: addFields(sum.draft.sources, lost.draft.sources),
    },
    learned: addFields(sum.learned, lost.learned),
    // What host RAM and store have served is counted since the load, and goes on behind a loss.
    tiers: { ...sum.tiers, gpu: { ...sum.tiers.gpu, pages: sum.tiers.gpu.pages + lost.tiers.gpu.pages } },
    byLayer,
    peakGpuBytes: Math.max(sum.peakGpuBytes, lost.peakGpuBytes),
  };
}

function addFields<T extends Readonly<Record<string, number>>>(a: T, b: T): T {
  return Object.fromEntries(Object.entries(a).map(([name, value]) => [name, value + (b[name] ?? 0)])) as T;
}
