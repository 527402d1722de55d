/**
 * A few buffers that the CPU writes in place: a page is read into one and copied to its slot by the GPU, with no array of
 * its own between. Owns which of them are mapped; never waits for one: where none is, its caller takes another way.
 */
import { assert } from '../errors';
import type { GpuDevice } from './device';
import type { DeviceBuffer } from './memory';

/** Memory that was taken and is neither copied nor given back yet. */
export interface StagedRange {
  readonly buffer: DeviceBuffer;
  /** Empty once it is copied, and when buffer or device are gone: the browser detaches it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

interface MappedBuffer {
  readonly buffer: DeviceBuffer;
  readonly memory: ArrayBuffer;
}

export class StagingRing {
  #buffers: ReadonlySet<DeviceBuffer> = new Set();
  /** Mapped and not taken, longest first. */
  #free: MappedBuffer[] = [];
  readonly #taken = new Map<DeviceBuffer, ArrayBuffer>();
  readonly #mappings = new Set<Promise<void>>();
  #encoder: GPUCommandEncoder | null = null;
  #copied: DeviceBuffer[] = [];

  constructor(private readonly device: GpuDevice) {}

  get buffers(): Iterable<DeviceBuffer> {
    return this.#buffers;
  }

  /** What the buffers take together. */
  get sizeBytes(): number {
    return [...this.#buffers].reduce((sum, buffer) => sum + buffer.size, 0);
  }

  /** Replaces the buffers; who made the ones before frees them. @param buffers of kind `staging`. */
  setBuffers(buffers: readonly DeviceBuffer[]): void {
    this.#buffers = new Set(buffers);
    this.#free = [];
    this.#taken.clear();
    for (const buffer of buffers) this.#map(buffer);
  }

  /** Resolves when every buffer that is being mapped is mapped: for measurements. */
  async settle(): Promise<void> {
    await Promise.all(this.#mappings);
  }

  /** Mapped memory of so many bytes, or null where there is none at the moment. */
  take(sizeBytes: number): StagedRange | null {
    // A lost device leaves mappings of no bytes.
    const index = this.#free.findIndex(({ memory }) => memory.byteLength >= sizeBytes);
    const [found] = index < 0 ? [] : this.#free.splice(index, 1);
    if (!found) return null;
    this.#taken.set(found.buffer, found.memory);
    return { buffer: found.buffer, bytes: new Uint8Array(found.memory, 0, sizeBytes) };
  }

  /** Makes memory that is not copied free again. */
  giveBack({ buffer }: StagedRange): void {
    const memory = this.#taken.get(buffer);
    // Of buffers that were replaced meanwhile.
    if (!memory) return;
    this.#taken.delete(buffer);
    this.#free.push({ buffer, memory });
  }

  /** Records the copy of taken memory, which is the GPU's from now on. Nothing happens before `submit`. */
  copy({ buffer, bytes }: StagedRange, target: DeviceBuffer, targetBytes: number): void {
    // Of buffers that are gone: so is what they were to be copied to.
    if (!this.#taken.delete(buffer)) return;
    const sizeBytes = bytes.byteLength;
    assert(sizeBytes % 4 === 0, `a copy has whole words, not ${sizeBytes} bytes`);
    buffer.unmap();
    this.#encoder ??= this.device.handle.createCommandEncoder();
    this.#encoder.copyBufferToBuffer(buffer, 0, target, targetBytes, sizeBytes);
    this.#copied.push(buffer);
  }

  /** Queues what was recorded, in the place that `writeBuffer` would take: behind all submissions before, ahead of the next. */
  submit(): void {
    if (!this.#encoder) return;
    this.device.handle.queue.submit([this.#encoder.finish()]);
    this.#encoder = null;
    for (const buffer of this.#copied.splice(0)) this.#map(buffer);
  }

  /** The browser maps it when the GPU has done what reads it. */
  #map(buffer: DeviceBuffer): void {
    const mapping = buffer
      .mapAsync(2 /* GPUMapMode.WRITE */)
      .then(() => {
        if (this.#buffers.has(buffer)) this.#free.push({ buffer, memory: buffer.getMappedRange() });
      })
      // Fails with the device, or with a buffer that was freed: it is not used again.
      .catch(() => {})
      .finally(() => this.#mappings.delete(mapping));
    this.#mappings.add(mapping);
  }
}
