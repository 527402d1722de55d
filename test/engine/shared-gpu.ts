/**
 * The browser's WebGPU with devices that outlive their engines, and their pipelines with them: on a software adapter
 * compiling takes longer than all that most tests run. Every other call goes through to the real device.
 * Never for tests that lose a device in the middle of a pass: a shared one can be lost between two, by destroying it.
 */
import { borrow } from '../../tools/borrow';

/** For `EngineEnvironment.gpu` and `DeviceOptions.gpu`. */
export const sharedGpu: GPU = borrow(navigator.gpu, {
  async requestAdapter(options?: GPURequestAdapterOptions) {
    const adapter = await navigator.gpu.requestAdapter(options);
    return (
      adapter &&
      borrow(adapter, { requestDevice: async (descriptor) => borrowDevice(await getDevice(adapter, descriptor)) })
    );
  },
});

interface SharedDevice {
  readonly device: GPUDevice;
  /** By everything that a pipeline is made from. */
  readonly pipelines: Map<string, Promise<GPUComputePipeline>>;
}

const devices = new Map<string, Promise<SharedDevice>>();

/** One device for each set of features and limits. */
function getDevice(adapter: GPUAdapter, descriptor?: GPUDeviceDescriptor): Promise<SharedDevice> {
  const key = JSON.stringify([[...(descriptor?.requiredFeatures ?? [])], descriptor?.requiredLimits]);
  let device = devices.get(key);
  if (!device) {
    device = adapter.requestDevice(descriptor).then((made) => ({ device: made, pipelines: new Map() }));
    devices.set(key, device);
  }
  return device;
}

/** A device for one engine: destroying it ends the borrowing only, and what its engine still sends goes nowhere. */
function borrowDevice({ device, pipelines }: SharedDevice): GPUDevice {
  const { queue } = device;
  const returned = new AbortController();
  const lost = new Promise<GPUDeviceLostInfo>((resolve) => {
    returned.signal.onabort = () =>
      resolve({ __brand: 'GPUDeviceLostInfo', reason: 'destroyed', message: 'the device was given back' });
  });
  const sources = new WeakMap<object, unknown>();
  const note = <T extends object>(made: T, source: unknown): T => {
    sources.set(made, source);
    return made;
  };
  return borrow(device, {
    lost,
    queue: borrow(device.queue, {
      submit: (commands) => (returned.signal.aborted ? undefined : queue.submit(commands)),
      writeBuffer: (...args: Parameters<GPUQueue['writeBuffer']>) =>
        returned.signal.aborted ? undefined : queue.writeBuffer(...args),
    }),
    destroy() {
      returned.abort();
      return undefined;
    },
    addEventListener(type: string, listener: EventListenerOrEventListenerObject) {
      device.addEventListener(type, listener, { signal: returned.signal });
    },
    createShaderModule: (source) => note(device.createShaderModule(source), source.code),
    createBindGroupLayout: (source) => note(device.createBindGroupLayout(source), [...source.entries]),
    createPipelineLayout: (source) =>
      note(
        device.createPipelineLayout(source),
        [...source.bindGroupLayouts].map((layout) => layout && sources.get(layout)),
      ),
    createComputePipelineAsync(source) {
      const { module, entryPoint, constants } = source.compute;
      const key = JSON.stringify([sources.get(module), sources.get(source.layout as object), entryPoint, constants]);
      let pipeline = pipelines.get(key);
      if (!pipeline) {
        pipeline = device.createComputePipelineAsync(source);
        pipelines.set(key, pipeline);
      }
      return pipeline;
    },
  });
}
