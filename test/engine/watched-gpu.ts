/**
 * The browser's WebGPU with its traffic counted from outside: submits, read-backs, bytes of live buffers, and the devices
 * themselves, so that a test can lose one. Owns counting only; every call goes through to the real GPU.
 */

export interface WatchedGpu {
  /** For `EngineEnvironment.gpu`. */
  readonly gpu: GPU;
  /** In the order of opening. */
  readonly devices: GPUDevice[];
  /** What each device was asked for with. */
  readonly requests: (GPUDeviceDescriptor | undefined)[];
  submits: number;
  /** Buffers mapped for reading. */
  readbacks: number;
  /** Bytes of the buffers that were made and not destroyed. */
  liveBytes: number;
  peakBytes: number;
}

export function watchGpu(): WatchedGpu {
  const watched: WatchedGpu = {
    gpu: Object.create(navigator.gpu, {
      requestAdapter: {
        value: async (options?: GPURequestAdapterOptions) => {
          const adapter = await navigator.gpu.requestAdapter(options);
          return adapter && watchAdapter(adapter, watched);
        },
      },
    }) as GPU,
    devices: [],
    requests: [],
    submits: 0,
    readbacks: 0,
    liveBytes: 0,
    peakBytes: 0,
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
    const createBuffer = device.createBuffer.bind(device);
    device.createBuffer = (request) => watchBuffer(createBuffer(request), watched);
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
