/** What is told of the GPU's memory without a token. Types, and what stands for nothing. */

/**
 * What a model has on the GPU after something other than a token has changed it: a load; a new budget; the loss of the device, and
 * the new one that a later call opened; an unload, or the end of the worker.
 */
export interface MemoryEvent {
  readonly cause: 'load' | 'budget' | 'lost' | 'restored' | 'unload';
  /** What the user should know of it: why the device was lost, that slots were halved, that the new device is another. Null: nothing. */
  readonly message: string | null;
  /** 0, as the bytes, where nothing is on a GPU. */
  readonly slotsPerLayer: number;
  readonly plannedGpuBytes: number;
  /** Of all buffers there are now; at most what is planned. */
  readonly usedGpuBytes: number;
  /** What computes there, as in `LoadedModel`: a new device may be another one. Null where nothing is on a GPU. */
  readonly device: { readonly adapter: string; readonly variants: Readonly<Record<string, string>> } | null;
  /** [moeLayers, experts]; 0 absent, 1 resident. Null where nothing is on a GPU. */
  readonly residency: Uint8Array | null;
}

/** What a GPU that is lost or left has of a model. */
export const NOTHING_ON_GPU = {
  slotsPerLayer: 0,
  plannedGpuBytes: 0,
  usedGpuBytes: 0,
  device: null,
  residency: null,
} as const;
