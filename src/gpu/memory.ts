/**
 * The byte ledger: the only place that creates GPU buffers.
 * Knows how many bytes may be used, are used, and were used at most; never what the bytes mean.
 */
import { EngineError } from '../errors';
import type { GpuDevice } from './device';

export type DeviceBuffer = GPUBuffer;

/** What a buffer is for; each allows what its name says and copies in and out. `staging`: the CPU writes it in place. */
export type BufferKind = 'storage' | 'uniform' | 'readback' | 'staging';

export interface BufferRequest {
  readonly label: string;
  readonly sizeBytes: number;
  readonly kind: BufferKind;
}

export class GpuMemory {
  #usedBytes = 0;
  #peakBytes = 0;
  readonly #buffers = new Map<DeviceBuffer, number>();

  /** @param plannedBytes bytes that all buffers together may take. */
  constructor(
    private readonly device: GpuDevice,
    public plannedBytes: number,
  ) {}

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get peakBytes(): number {
    return this.#peakBytes;
  }

  /**
   * Allocates zeroed buffers, all or none.
   * A failed `createBuffer` gives an invalid buffer and later silent garbage, so each batch runs in its own error scope.
   * @throws EngineError `OUT_OF_GPU_MEMORY`
   */
  async allocate(requests: readonly BufferRequest[]): Promise<DeviceBuffer[]> {
    const bytes = sumBytes(requests);
    if (this.#usedBytes + bytes > this.plannedBytes) {
      throw new EngineError(
        'OUT_OF_GPU_MEMORY',
        `${bytes} bytes of GPU memory were asked for (${requests[0]?.label ?? 'nothing'}, …), but of ${this.plannedBytes} planned ` +
          `bytes ${this.#usedBytes} are taken: the plan is wrong, please report it`,
      );
    }
    // Taken before the wait: allocations side by side must not both fit into what is left for one.
    this.#usedBytes += bytes;
    const { handle } = this.device;
    handle.pushErrorScope('out-of-memory');
    handle.pushErrorScope('validation');
    const buffers = requests.map((request) =>
      handle.createBuffer({ label: request.label, size: roundUp(request.sizeBytes), usage: getUsage(request.kind) }),
    );
    const errors = await Promise.all([handle.popErrorScope(), handle.popErrorScope()]);
    const error = errors.find((e) => e !== null);
    if (error) {
      for (const buffer of buffers) buffer.destroy();
      this.#usedBytes -= bytes;
      throw new EngineError(
        'OUT_OF_GPU_MEMORY',
        `the GPU refused ${bytes} bytes (${requests[0]?.label ?? ''}, …) on top of ${this.#usedBytes}: ` +
          `lower the GPU budget. The GPU said: ${error.message}`,
      );
    }
    for (const buffer of buffers) this.#buffers.set(buffer, buffer.size);
    this.#peakBytes = Math.max(this.#peakBytes, this.#usedBytes);
    return buffers;
  }

  /** Destroys buffers made here. */
  free(buffers: Iterable<DeviceBuffer>): void {
    for (const buffer of buffers) {
      this.#usedBytes -= this.#buffers.get(buffer) ?? 0;
      this.#buffers.delete(buffer);
      buffer.destroy();
    }
  }

  freeAll(): void {
    this.free([...this.#buffers.keys()]);
  }
}

/** Size that a buffer of `sizeBytes` takes in the ledger: bindings want multiples of 4, uniforms of 16, none is empty. */
export function roundUp(sizeBytes: number): number {
  return Math.max(16, Math.ceil(sizeBytes / 16) * 16);
}

function getUsage(kind: BufferKind): GPUBufferUsageFlags {
  // Numbers of the specification: Node has no GPUBufferUsage global.
  const MAP_READ = 0x1;
  const MAP_WRITE = 0x2;
  const COPY_SRC = 0x4;
  const COPY_DST = 0x8;
  const UNIFORM = 0x40;
  const STORAGE = 0x80;
  switch (kind) {
    case 'storage':
      return STORAGE | COPY_SRC | COPY_DST;
    case 'uniform':
      return UNIFORM | COPY_DST;
    case 'readback':
      return MAP_READ | COPY_DST;
    case 'staging':
      return MAP_WRITE | COPY_SRC;
  }
}

/** What buffers take together, in bytes. */
export function sumBytes(requests: readonly BufferRequest[]): number {
  return requests.reduce((sum, { sizeBytes }) => sum + roundUp(sizeBytes), 0);
}
