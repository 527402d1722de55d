/**
 * Many small uniform structs in one buffer, each at an aligned offset. Owns offsets and words, never their meaning.
 */
import { assert } from '../errors';
import type { GpuDevice } from './device';
import type { DeviceBuffer } from './memory';
import type { BindingResource } from './program';

/** WebGPU's largest (and default) `minUniformBufferOffsetAlignment`. */
const ALIGNMENT_BYTES = 256;

/** Bytes of a buffer for `count` structs. */
export function getUniformBytes(count: number): number {
  return count * ALIGNMENT_BYTES;
}

/** One word of a struct: `u32`, unless said to be a float. */
export type UniformWord = number | { readonly f32: number };

export class UniformBlock {
  #count = 0;

  constructor(
    private readonly device: GpuDevice,
    private readonly buffer: DeviceBuffer,
  ) {}

  /** Writes a struct of at most 64 words into the next free place. */
  add(...words: readonly UniformWord[]): BindingResource {
    return this.set(this.reserve(1), ...words);
  }

  /** Keeps places free for `set`. Returns the first one's index. */
  reserve(count: number): number {
    this.#count += count;
    return this.#count - count;
  }

  /** Writes, or rewrites, the struct at a reserved place. */
  set(index: number, ...words: readonly UniformWord[]): BindingResource {
    const offset = index * ALIGNMENT_BYTES;
    assert(offset < this.buffer.size, `uniform struct ${index} fits into ${this.buffer.size} bytes`);
    // 16 bytes at least: what a uniform binding may ask for.
    const size = Math.max(16, Math.ceil(words.length / 4) * 16);
    this.device.handle.queue.writeBuffer(this.buffer, offset, encodeWords(words, size));
    return { buffer: this.buffer, offset, size };
  }
}

/** Little-endian words, padded with zeros to `sizeBytes`. */
export function encodeWords(words: readonly UniformWord[], sizeBytes: number): ArrayBuffer {
  const view = new DataView(new ArrayBuffer(sizeBytes));
  words.forEach((word, i) => {
    if (typeof word === 'number') view.setUint32(i * 4, word, true);
    else view.setFloat32(i * 4, word.f32, true);
  });
  return view.buffer;
}
