/**
 * The slots in GPU memory: for every MoE layer a number of page-sized places, in as many buffers as one binding's limit
 * asks for. Owns the bytes; never decides which page lies where.
 */
import type { PageLayout } from '../checkpoint/manifest';
import { assert } from '../errors';
import type { GpuDevice } from '../gpu/device';
import type { BufferRequest, DeviceBuffer } from '../gpu/memory';

/** A run of slots that share a buffer. */
export interface PoolPart {
  readonly firstSlot: number;
  readonly slots: number;
}

export type LoadedPart = PoolPart & { readonly buffer: DeviceBuffer };

/** Splits a layer's slots so that no buffer is larger than `bindingBytes`. */
export function getPoolParts(slots: number, pageBytes: number, bindingBytes: number): PoolPart[] {
  const perBuffer = Math.max(1, Math.floor(bindingBytes / pageBytes));
  const parts: PoolPart[] = [];
  for (let firstSlot = 0; firstSlot < slots; firstSlot += perBuffer) {
    parts.push({ firstSlot, slots: Math.min(perBuffer, slots - firstSlot) });
  }
  return parts;
}

/** Buffers of one MoE layer's slots. */
export function getLayerPoolRequests(
  layouts: readonly PageLayout[],
  moeLayer: number,
  slots: number,
  bindingBytes: number,
): BufferRequest[] {
  const pageBytes = layouts[moeLayer]?.pageBytes ?? 0;
  return getPoolParts(slots, pageBytes, bindingBytes).map((part) => ({
    label: `slots of MoE layer ${moeLayer} from ${part.firstSlot}`,
    sizeBytes: part.slots * pageBytes,
    kind: 'storage' as const,
  }));
}

export function getPoolRequests(layouts: readonly PageLayout[], slots: number, bindingBytes: number): BufferRequest[] {
  return layouts.flatMap((_, moeLayer) => getLayerPoolRequests(layouts, moeLayer, slots, bindingBytes));
}

export class SlotPool {
  readonly #layers: LoadedPart[][] = [];

  constructor(
    private readonly device: GpuDevice,
    private readonly layouts: readonly PageLayout[],
    private readonly bindingBytes: number,
  ) {}

  /**
   * Gives a layer its buffers; what they held before is gone.
   * @param buffers as asked for by `getLayerPoolRequests`, in that order.
   */
  setLayer(moeLayer: number, slots: number, buffers: readonly DeviceBuffer[]): void {
    this.#layers[moeLayer] = getPoolParts(slots, this.getPageBytes(moeLayer), this.bindingBytes).map((part, i) => ({
      ...part,
      buffer: buffers[i] as DeviceBuffer,
    }));
  }

  getParts(moeLayer: number): readonly LoadedPart[] {
    return this.#layers[moeLayer] ?? [];
  }

  getSlots(moeLayer: number): number {
    return this.getParts(moeLayer).reduce((sum, part) => sum + part.slots, 0);
  }

  getPageBytes(moeLayer: number): number {
    return this.layouts[moeLayer]?.pageBytes ?? 0;
  }

  /** Queues a page's upload; it takes effect for the submissions that follow. */
  write(moeLayer: number, slot: number, page: Uint8Array): void {
    const pageBytes = this.getPageBytes(moeLayer);
    assert(
      page.byteLength === pageBytes,
      `a page of MoE layer ${moeLayer} has ${pageBytes} bytes, not ${page.byteLength}`,
    );
    const part = this.getParts(moeLayer).find((p) => slot >= p.firstSlot && slot < p.firstSlot + p.slots);
    assert(part, `slot ${slot} of MoE layer ${moeLayer} exists`);
    this.device.handle.queue.writeBuffer(
      part.buffer,
      (slot - part.firstSlot) * pageBytes,
      page as BufferSource as Uint8Array<ArrayBuffer>,
    );
  }
}
