/**
 * The slots in GPU memory: for every page group a number of page-sized places, in as many buffers as one binding's limit
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

/** Of a slot's bytes. */
export interface SlotPlace {
  readonly buffer: DeviceBuffer;
  readonly offsetBytes: number;
}

/** Splits a group's slots so that no buffer is larger than `bindingBytes`. */
export function getPoolParts(slots: number, pageBytes: number, bindingBytes: number): PoolPart[] {
  const perBuffer = Math.max(1, Math.floor(bindingBytes / pageBytes));
  const parts: PoolPart[] = [];
  for (let firstSlot = 0; firstSlot < slots; firstSlot += perBuffer) {
    parts.push({ firstSlot, slots: Math.min(perBuffer, slots - firstSlot) });
  }
  return parts;
}

/** Buffers of one page group's slots. */
export function getGroupPoolRequests(
  layouts: readonly PageLayout[],
  group: number,
  slots: number,
  bindingBytes: number,
): BufferRequest[] {
  const pageBytes = layouts[group]?.pageBytes ?? 0;
  return getPoolParts(slots, pageBytes, bindingBytes).map((part) => ({
    label: `slots of page group ${group} from ${part.firstSlot}`,
    sizeBytes: part.slots * pageBytes,
    kind: 'storage' as const,
  }));
}

export function getPoolRequests(layouts: readonly PageLayout[], slots: number, bindingBytes: number): BufferRequest[] {
  return layouts.flatMap((_, group) => getGroupPoolRequests(layouts, group, slots, bindingBytes));
}

export class SlotPool {
  readonly #groups: LoadedPart[][] = [];

  constructor(
    private readonly device: GpuDevice,
    private readonly layouts: readonly PageLayout[],
    private readonly bindingBytes: number,
  ) {}

  /**
   * Gives a group its buffers; what they held before is gone.
   * @param buffers as asked for by `getGroupPoolRequests`, in that order.
   */
  setGroup(group: number, slots: number, buffers: readonly DeviceBuffer[]): void {
    this.#groups[group] = getPoolParts(slots, this.getPageBytes(group), this.bindingBytes).map((part, i) => ({
      ...part,
      buffer: buffers[i] as DeviceBuffer,
    }));
  }

  getParts(group: number): readonly LoadedPart[] {
    return this.#groups[group] ?? [];
  }

  getSlots(group: number): number {
    return this.getParts(group).reduce((sum, part) => sum + part.slots, 0);
  }

  getPageBytes(group: number): number {
    return this.layouts[group]?.pageBytes ?? 0;
  }

  /** Where a slot's bytes lie. */
  locate(group: number, slot: number): SlotPlace {
    const part = this.getParts(group).find((p) => slot >= p.firstSlot && slot < p.firstSlot + p.slots);
    assert(part, `slot ${slot} of group ${group} exists`);
    return { buffer: part.buffer, offsetBytes: (slot - part.firstSlot) * this.getPageBytes(group) };
  }

  /** Queues a page's upload; it takes effect for the submissions that follow. */
  write(group: number, slot: number, page: Uint8Array): void {
    const pageBytes = this.getPageBytes(group);
    assert(page.byteLength === pageBytes, `a page of group ${group} has ${pageBytes} bytes, not ${page.byteLength}`);
    const { buffer, offsetBytes } = this.locate(group, slot);
    this.device.handle.queue.writeBuffer(buffer, offsetBytes, page as BufferSource as Uint8Array<ArrayBuffer>);
  }
}
