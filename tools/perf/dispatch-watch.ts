/**
 * What a device's dispatches are: WebGPU with every bind group's buffers noted, timestamps asked for, and a submission that
 * keeps its dispatches instead of running them. Every call goes through to the real GPU; measures nothing.
 */
import { Submission } from '../../src/gpu/pass';
import { borrow } from '../borrow';

/** A buffer of a dispatch, or the range of it that is bound. */
export interface BoundBuffer {
  readonly label: string;
  readonly sizeBytes: number;
}

export interface RecordedDispatch {
  /** The kernel's name: its entry point. */
  readonly kernel: string;
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
  readonly grid: readonly [x: number, y: number, z: number];
}

/** A copy from buffer to buffer, which is no dispatch. */
export interface BufferCopy {
  readonly source: GPUBuffer;
  readonly target: GPUBuffer;
}

export interface DispatchWatch {
  /** For `DeviceOptions.gpu`. */
  readonly gpu: GPU;
  getBuffers(bindGroup: GPUBindGroup): readonly BoundBuffer[];
}

export function watchDispatches(base: GPU): DispatchWatch {
  const groups = new WeakMap<GPUBindGroup, readonly BoundBuffer[]>();
  const watchDevice = (device: GPUDevice): void => {
    const createBindGroup = device.createBindGroup.bind(device);
    device.createBindGroup = (descriptor) => {
      const group = createBindGroup(descriptor);
      groups.set(
        group,
        Array.from(descriptor.entries, ({ resource }) => getBound(resource)),
      );
      return group;
    };
  };
  const gpu = borrow(base, {
    requestAdapter: async (options?: GPURequestAdapterOptions) => {
      const adapter = await base.requestAdapter(options);
      if (!adapter) return null;
      const requestDevice = adapter.requestDevice.bind(adapter);
      adapter.requestDevice = async (descriptor = {}) => {
        const timestamps: GPUFeatureName[] = adapter.features.has('timestamp-query') ? ['timestamp-query'] : [];
        const requiredFeatures = [...(descriptor.requiredFeatures ?? []), ...timestamps];
        const device = await requestDevice({ ...descriptor, requiredFeatures });
        watchDevice(device);
        return device;
      };
      return adapter;
    },
  });
  return { gpu, getBuffers: (bindGroup) => groups.get(bindGroup) ?? [] };
}

function getBound(resource: GPUBindingResource): BoundBuffer {
  // The engine binds buffers whole, or ranges of them; nothing else.
  const { buffer, size } = 'buffer' in resource ? resource : { buffer: resource as GPUBuffer, size: undefined };
  return { label: buffer.label, sizeBytes: size ?? buffer.size };
}

/** A submission that nothing comes of: its dispatches are kept, its copies left out. */
export class RecordingSubmission extends Submission {
  readonly dispatches: RecordedDispatch[] = [];

  override dispatch(pipeline: GPUComputePipeline, bindGroup: GPUBindGroup, x: number, y = 1, z = 1): void {
    this.dispatches.push({ kernel: pipeline.label, pipeline, bindGroup, grid: [x, y, z] });
  }

  override copy(): void {}
}
