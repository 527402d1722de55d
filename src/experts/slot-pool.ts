/**
 * The slots in GPU memory: for every MoE layer a fixed number of page-sized places, in as many buffers as one binding's
 * limit asks for. Owns the bytes; never decides which page lies where.
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

/** Splits a layer's slots so that no buffer is larger than `bindingBytes`. */
export function getPoolParts(slots: number, pageBytes: number, bindingBytes: number): PoolPart[] {
  const perBuffer = Math.max(1, Math.floor(bindingBytes / pageBytes));
  const parts: PoolPart[] = [];
  for (let firstSlot = 0; firstSlot < slots; firstSlot += perBuffer) {
    parts.push({ firstSlot, slots: Math.min(perBuffer, slots - firstSlot) });
  }
  return parts;
}

export function getPoolRequests(layouts: readonly PageLayout[], slots: number, bindingBytes: number): BufferRequest[] {
  return layouts.flatMap((layout, moeLayer) =>
    getPoolParts(slots, layout.pageBytes, bindingBytes).map((part) => ({
      label: `slots of MoE layer ${moeLayer} from ${part.firstSlot}`,
      sizeBytes: part.slots * layout.pageBytes,
      kind: 'storage' as const,
    })),
  );
}

export class SlotPool {
  readonly #layers: ReadonlyArray<ReadonlyArray<PoolPart & { readonly buffer: DeviceBuffer }>>;

  /** @param buffers as asked for by `getPoolRequests`, in that order. */
  constructor(
    private readonly device: GpuDevice,
    private readonly layouts: readonly PageLayout[],
    readonly slots: number,
    bindingBytes: number,
    buffers: readonly DeviceBuffer[],
  ) {
    const rest = buffers[Symbol.iterator]();
    this.#layers = layouts.map((layout) =>
      getPoolParts(slots, layout.pageBytes, bindingBytes).map((part) => ({
        ...part,
        buffer: rest.next().value as DeviceBuffer,
      })),
    );
  }

  getParts(moeLayer: number): ReadonlyArray<PoolPart & { readonly buffer: DeviceBuffer }> {
    return this.#layers[moeLayer] ?? [];
  }

  /** Queues a page's upload; it takes effect for the submissions that follow. */
  write(moeLayer: number, slot: number, page: Uint8Array): void {
    const pageBytes = this.layouts[moeLayer]?.pageBytes;
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
