/**
 * One submission: dispatches and copies in order, then at most one read-back.
 * Counts submits and read-backs; never knows what a kernel computes.
 */
import { EngineError } from '../errors';
import type { GpuDevice } from './device';
import type { DeviceBuffer } from './memory';

/** A copy into the read-back buffer. */
export interface ReadbackPart {
  readonly source: DeviceBuffer;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

export class Submission {
  readonly #encoder: GPUCommandEncoder;
  #pass: GPUComputePassEncoder | null = null;

  constructor(private readonly device: GpuDevice) {
    this.#encoder = device.handle.createCommandEncoder();
  }

  dispatch(pipeline: GPUComputePipeline, bindGroup: GPUBindGroup, x: number, y = 1, z = 1): void {
    this.#pass ??= this.#encoder.beginComputePass();
    this.#pass.setPipeline(pipeline);
    this.#pass.setBindGroup(0, bindGroup);
    this.#pass.dispatchWorkgroups(x, y, z);
  }

  copy(source: DeviceBuffer, sourceBytes: number, target: DeviceBuffer, targetBytes: number, sizeBytes: number): void {
    this.#endPass();
    this.#encoder.copyBufferToBuffer(source, sourceBytes, target, targetBytes, sizeBytes);
  }

  submit(): void {
    this.#endPass();
    this.device.handle.queue.submit([this.#encoder.finish()]);
    this.device.counters.submits++;
  }

  /**
   * Submits, waits, and returns a copy of the parts, one after another.
   * @param target a `readback` buffer that holds all parts.
   * @param placedBytes that the submission itself has copied there, behind the place of the parts: returned with them.
   * @throws EngineError `DEVICE_LOST`, `GPU_ERROR`
   */
  async submitAndRead(parts: readonly ReadbackPart[], target: DeviceBuffer, placedBytes = 0): Promise<ArrayBuffer> {
    let at = 0;
    for (const part of parts) {
      this.copy(part.source, part.offsetBytes, target, at, part.sizeBytes);
      at += part.sizeBytes;
    }
    at += placedBytes;
    this.submit();
    this.device.counters.readbacks++;
    try {
      await target.mapAsync(1 /* GPUMapMode.READ */, 0, at);
    } catch (cause) {
      // Mapping fails only with the device, or by a mistake of ours, which the device has reported.
      const lost = await this.device.readLoss();
      throw (
        lost ??
        this.device.getError() ??
        new EngineError('GPU_ERROR', `reading back from the GPU failed: ${String(cause)}`, { cause })
      );
    }
    if (this.device.readbackDelayMs > 0)
      await new Promise((resolve) => setTimeout(resolve, this.device.readbackDelayMs));
    const bytes = target.getMappedRange(0, at).slice(0);
    target.unmap();
    const error = this.device.getError();
    if (error) throw error;
    return bytes;
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = null;
  }
}
