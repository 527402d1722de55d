/** What is known of the tiers that pages are in. Types only. */
/**
 * Where pages came from, fastest tier first: what a tier does not have, the next one is asked for, and what comes from there
 * is kept in all tiers above. GPU: totals over decode; the others: since the model was loaded.
 */
export interface TierStats {
  readonly gpu: TierUse;
  readonly ram: TierUse;
  readonly store: TierUse;
  /** The network, or the user's file that is read in place. `bytes` also of what was fetched for later. */
  readonly source: TierUse;
  /** Of the store's pages, those that went straight into mapped GPU memory and not through RAM; and what that memory takes. */
  readonly staged: TierUse;
  /** Stored pages that were lost or damaged, and fetched again. */
  readonly repairs: number;
}

/** What one tier gave, and what it holds. */
export interface TierUse {
  /** Pages that were found here when asked for. */
  readonly pages: number;
  /** Bytes that came from here; null where nothing moves. */
  readonly bytes: number | null;
  /** What the tier holds now; null for the source. */
  readonly usedBytes: number | null;
  /** What it may hold; null: no limit of webmoe's. */
  readonly budgetBytes: number | null;
}
