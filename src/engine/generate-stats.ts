/** What a generation has cost, as its end tells it. Types only. */
import type { TierStats } from './tiers';

/** Totals over decode, unless said otherwise. */
export interface GenerateStats {
  readonly promptTokens: number;
  /** Of these, how many the KV cache held already. */
  readonly reusedTokens: number;
  readonly generatedTokens: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
  readonly slotsPerLayer: number;
  /** Present / needed pages, before any upload for the same event. 1 when nothing was needed. */
  readonly hitRate: number;
  /** Events (layer of a token) with at least one missing page. */
  readonly faultingLayers: number;
  readonly roundTrips: number;
  readonly submits: number;
  readonly layersExecuted: number;
  /** Because of a fault; ahead of use and used; ahead of use and not used (yet). */
  readonly uploadBytes: { readonly demand: number; readonly useful: number; readonly wasted: number };
  /**
   * Tokens guessed and, of these, held; passes of decode, each of which gives one token and those that held. `sources` counts
   * the passes by where their guesses came from: `off` none, `self` the resident experts, `lookup` and `table` the text,
   * `grammar` what the grammar leaves no choice in.
   */
  readonly draft: {
    readonly proposed: number;
    readonly accepted: number;
    readonly passes: number;
    readonly sources: Readonly<Record<'off' | 'self' | 'lookup' | 'table' | 'grammar', number>>;
  };
  /** Tokens whose routes the learned predictor was asked for; answers before the token, and behind a fault of it. 0 without one. */
  readonly learned: { readonly asked: number; readonly inTime: number; readonly late: number };
  /** Pages that came from host RAM, and pages read into it with their bytes; since the model was loaded. */
  readonly hostCache: { readonly hits: number; readonly reads: number; readonly readBytes: number };
  /** Beginnings of conversations in host RAM, with their bytes; bytes copied there from the GPU, and back, since the load. */
  readonly prefixCache: {
    readonly count: number;
    readonly usedBytes: number;
    readonly savedBytes: number;
    readonly restoredBytes: number;
  };
  readonly tiers: TierStats;
  /** The same counts by MoE layer: pages needed, present, and passes that missed one. */
  readonly byLayer: readonly { readonly needed: number; readonly present: number; readonly faults: number }[];
  readonly plannedGpuBytes: number;
  readonly peakGpuBytes: number;
  readonly adapter: string;
  /** As in `LoadedModel`. */
  readonly variants: Readonly<Record<string, string>>;
}
