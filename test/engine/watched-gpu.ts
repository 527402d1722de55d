/**
 * The browser's WebGPU with its traffic counted from outside: submits, read-backs, uploaded pages, bytes of live buffers, and
 * the devices themselves, so that a test can lose one. Owns counting, and the size of a GPU that is nearly full; every call
 * goes through to the real one.
 */
import { borrow } from '../../tools/borrow';
import { sharedGpu } from './shared-gpu';

export interface WatchedGpu {
  /** For `EngineEnvironment.gpu`. */
  readonly gpu: GPU;
  /** In the order of opening. */
  readonly devices: GPUDevice[];
  /** What each device was asked for with. */
  readonly requests: (GPUDeviceDescriptor | undefined)[];
  submits: number;
  /** Kernels that were asked for. */
  pipelines: number;
  /** Buffers mapped for reading. */
  readbacks: number;
  /** Bytes of the buffers that were made and not destroyed. */
  liveBytes: number;
  peakBytes: number;
  /** Bytes written to buffers of slots. */
  slotBytes: number;
  /** A buffer beyond this makes the GPU refuse it. */
  capacityBytes: number;
}

/** @param base `navigator.gpu` where a device is to be lost. */
export function watchGpu(base = sharedGpu): WatchedGpu {
  const watched: WatchedGpu = {
    gpu: borrow(base, {
      requestAdapter: async (options?: GPURequestAdapterOptions) => {
        const adapter = await base.requestAdapter(options);
        return adapter && watchAdapter(adapter, watched);
      },
    }),
    devices: [],
    requests: [],
    submits: 0,
    pipelines: 0,
    readbacks: 0,
    liveBytes: 0,
    peakBytes: 0,
    slotBytes: 0,
    capacityBytes: Number.POSITIVE_INFINITY,
  };
  return watched;
}

function watchAdapter(adapter: GPUAdapter, watched: WatchedGpu): GPUAdapter {
  const requestDevice = adapter.requestDevice.bind(adapter);
  adapter.requestDevice = async (descriptor) => {
    const device = await requestDevice(descriptor);
    watched.devices.push(device);
    watched.requests.push(descriptor);
    const { queue } = device;
    const submit = queue.submit.bind(queue);
    queue.submit = (commands) => {
      watched.submits++;
      submit(commands);
    };
    const writeBuffer = queue.writeBuffer.bind(queue) as (...args: Parameters<GPUQueue['writeBuffer']>) => undefined;
    queue.writeBuffer = (...args: Parameters<GPUQueue['writeBuffer']>) => {
      if (args[0].label.startsWith('slots of page group')) watched.slotBytes += args[2].byteLength;
      return writeBuffer(...args);
    };
    const buffers: GPUBuffer[] = [];
    // A device that is shared lives on; its engine's buffers must not.
    const destroy = device.destroy.bind(device);
    device.destroy = () => {
      for (const buffer of buffers) buffer.destroy();
      return destroy();
    };
    const compile = device.createComputePipelineAsync.bind(device);
    device.createComputePipelineAsync = (source) => {
      watched.pipelines++;
      return compile(source);
    };
    const createBuffer = device.createBuffer.bind(device);
    device.createBuffer = (request) => {
      // More than the device's own limit: the real GPU makes the error.
      if (watched.liveBytes + request.size > watched.capacityBytes)
        return createBuffer({ ...request, size: device.limits.maxBufferSize + 16 });
      const buffer = watchBuffer(createBuffer(request), watched);
      buffers.push(buffer);
      return buffer;
    };
    return device;
  };
  return adapter;
}

function watchBuffer(buffer: GPUBuffer, watched: WatchedGpu): GPUBuffer {
  watched.liveBytes += buffer.size;
  watched.peakBytes = Math.max(watched.peakBytes, watched.liveBytes);
  const mapAsync = buffer.mapAsync.bind(buffer);
  buffer.mapAsync = (mode, offset, size) => {
    watched.readbacks++;
    return mapAsync(mode, offset, size);
  };
  const destroy = buffer.destroy.bind(buffer);
  let live = true;
  buffer.destroy = () => {
    if (live) watched.liveBytes -= buffer.size;
    live = false;
    destroy();
  };
  return buffer;
}
