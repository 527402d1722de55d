/**
 * The page table in GPU memory: expert -> slot, or ABSENT, for every MoE layer.
 * Owns that buffer's contents; never decides them.
 */
import type { GpuDevice } from '../gpu/device';
import type { BufferRequest, DeviceBuffer } from '../gpu/memory';

/** Entry of an expert without a slot; the ABSENT of shaders/lib/control.wgsl. */
export const ABSENT = 0xffffffff;
/** Entry of an expert that another wave shows in a slot; the PROMISED of shaders/lib/control.wgsl. */
export const PROMISED = 0xfffffffe;

export function getPageTableRequest(moeLayers: number, experts: number): BufferRequest {
  return { label: 'page table', sizeBytes: moeLayers * experts * 4, kind: 'storage' };
}

export class PageTable {
  constructor(
    private readonly device: GpuDevice,
    readonly buffer: DeviceBuffer, // [moeLayers, experts] u32
    private readonly experts: number,
  ) {}

  /** Queues a layer's row: slots, ABSENT or PROMISED. It takes effect for the submissions that follow. */
  writeRow(moeLayer: number, getEntry: (expert: number) => number): void {
    const row = Uint32Array.from({ length: this.experts }, (_, expert) => getEntry(expert));
    this.device.handle.queue.writeBuffer(this.buffer, moeLayer * this.experts * 4, row);
  }
}
