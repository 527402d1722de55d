/**
 * Opens a GPU device and says what it can do. The only place that asks for an adapter.
 * Never decides what a model needs: callers read `limits` and `features`.
 */
import { EngineError } from '../errors';

export interface DeviceOptions {
  /** The WebGPU entry point; default `navigator.gpu`. In Node: `create([])` of the npm package `webgpu`. */
  readonly gpu?: GPU;
  /** Ask for no optional feature and no raised limit: what every WebGPU has. */
  readonly defaultLimitsOnly?: boolean;
  /** Added to every read-back, in milliseconds: for measuring what slower round trips cost. */
  readonly readbackDelayMs?: number;
  /** Ask for subgroup matrices too, an experimental feature. */
  readonly subgroupMatrix?: boolean;
}

/** A product that a subgroup computes together: [rows, depth] times [depth, columns] halves, sums in f32. */
export interface SubgroupMatrix {
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
}

/** What kernels may choose their form by: a pure description of the adapter and the options. */
export interface DeviceTraits {
  /** Invocations of a subgroup where subgroups are enabled and of one fixed size, else null. */
  readonly subgroupSize: number | null;
  /** Whether WGSL has packed 4x8 dot products. */
  readonly hasPackedDot: boolean;
  /** Whether WGSL has f16. */
  readonly hasF16: boolean;
  /** Products of subgroup matrices in halves with sums in f32; empty where they are not asked for. */
  readonly subgroupMatrices: readonly SubgroupMatrix[];
  /** The adapter runs on a CPU: workgroup barriers are dear, parallelism small. */
  readonly isSoftware: boolean;
}

export interface GpuDevice {
  readonly handle: GPUDevice;
  readonly traits: DeviceTraits;
  readonly limits: GPUSupportedLimits;
  /** For people: vendor, architecture, description. */
  readonly description: string;
  readonly readbackDelayMs: number;
  /** Submits and read-backs since the device was opened. */
  readonly counters: { submits: number; readbacks: number };
  /** Resolves with the loss as an EngineError; never rejects. */
  readonly lost: Promise<EngineError>;
  /** The loss, if the news of one has arrived. */
  getLoss(): EngineError | undefined;
  /** The loss, if there was one: an error of the GPU may arrive before the news of it, so this waits a moment. */
  readLoss(): Promise<EngineError | undefined>;
  /** The first uncaptured error, if there was one. */
  getError(): EngineError | undefined;
  destroy(): void;
}

const RAISED_LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
] as const;

/** How long the news of a loss may take behind the first error that it causes. */
const LOSS_NEWS_MS = 100;

function findGpu({ gpu }: DeviceOptions): GPU | undefined {
  return gpu ?? (typeof navigator === 'undefined' ? undefined : navigator.gpu);
}

/**
 * The most capable adapter.
 * @throws EngineError `NO_WEBGPU`
 */
export async function requireAdapter(options: DeviceOptions = {}): Promise<GPUAdapter> {
  const gpu = findGpu(options);
  if (!gpu) {
    throw new EngineError(
      'NO_WEBGPU',
      'this browser has no WebGPU: use a current Chrome, Edge, Safari or Firefox over https or on localhost',
    );
  }
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) {
    throw new EngineError(
      'NO_WEBGPU',
      'WebGPU is there but offers no adapter: enable hardware acceleration, or start Chromium with --enable-unsafe-webgpu',
    );
  }
  return adapter;
}

/** Features that kernels have forms for. */
const USED_FEATURES: readonly GPUFeatureName[] = ['subgroups', 'shader-f16'];

/** Chromium's and Dawn's, behind flags: neither the WebGPU standard nor its types know it. */
const SUBGROUP_MATRIX = 'chromium-experimental-subgroup-matrix' as GPUFeatureName;

interface InfoOfMatrices {
  readonly subgroupMatrixConfigs?: Iterable<{
    readonly componentType: string;
    readonly resultComponentType: string;
    readonly M: number;
    readonly N: number;
    readonly K: number;
  }>;
}

function listFeatures(
  adapter: GPUAdapter,
  { defaultLimitsOnly = false, subgroupMatrix = false }: DeviceOptions,
): readonly GPUFeatureName[] {
  if (defaultLimitsOnly) return [];
  const wanted = subgroupMatrix ? [...USED_FEATURES, SUBGROUP_MATRIX] : USED_FEATURES;
  return wanted.filter((feature) => adapter.features.has(feature));
}

/** What a device that is opened with these options will have. */
export function getTraits(adapter: GPUAdapter, options: DeviceOptions): DeviceTraits {
  const { subgroupMinSize, subgroupMaxSize, isFallbackAdapter } = adapter.info;
  const features = listFeatures(adapter, options);
  const hasOneSize = features.includes('subgroups') && subgroupMinSize === subgroupMaxSize;
  const language = options.defaultLimitsOnly ? undefined : findGpu(options)?.wgslLanguageFeatures;
  return {
    subgroupSize: hasOneSize && subgroupMinSize ? subgroupMinSize : null,
    hasPackedDot: language?.has('packed_4x8_integer_dot_product') ?? false,
    hasF16: features.includes('shader-f16'),
    subgroupMatrices: features.includes(SUBGROUP_MATRIX)
      ? [...((adapter.info as InfoOfMatrices).subgroupMatrixConfigs ?? [])]
          .filter(({ componentType, resultComponentType }) => componentType === 'f16' && resultComponentType === 'f32')
          .map(({ M, N, K }) => ({ rows: M, columns: N, depth: K }))
      : [],
    isSoftware: isFallbackAdapter,
  };
}

/**
 * Opens a device on the most capable adapter.
 * @throws EngineError `NO_WEBGPU`
 */
export async function openDevice(options: DeviceOptions = {}): Promise<GpuDevice> {
  const adapter = await requireAdapter(options);
  const plain = options.defaultLimitsOnly === true;
  const handle = await adapter.requestDevice(
    plain
      ? {}
      : {
          requiredFeatures: listFeatures(adapter, options),
          requiredLimits: Object.fromEntries(RAISED_LIMITS.map((name) => [name, adapter.limits[name]])),
        },
  );

  const { info } = adapter;
  let firstError: EngineError | undefined;
  handle.addEventListener('uncapturederror', (event) => {
    const { error } = event as GPUUncapturedErrorEvent;
    firstError ??= new EngineError('GPU_ERROR', `the GPU reported an error: ${error.message}`);
  });

  let knownLoss: EngineError | undefined;
  const lost = handle.lost.then(({ reason, message }) => {
    knownLoss = new EngineError('DEVICE_LOST', `the GPU device was lost (${reason}): ${message || 'no reason given'}`);
    return knownLoss;
  });
  return {
    handle,
    traits: getTraits(adapter, options),
    limits: handle.limits,
    description: [info.vendor, info.architecture, info.description].filter((part) => part !== '').join(' '),
    readbackDelayMs: options.readbackDelayMs ?? 0,
    counters: { submits: 0, readbacks: 0 },
    lost,
    getLoss: () => knownLoss,
    readLoss: () =>
      Promise.race([lost, new Promise<undefined>((resolve) => setTimeout(resolve, LOSS_NEWS_MS, undefined))]),
    getError: () => firstError,
    destroy: () => handle.destroy(),
  };
}

/** @throws EngineError `DEVICE_LOST` once the news of it has arrived. */
export function throwIfLost(device: GpuDevice): void {
  const loss = device.getLoss();
  if (loss) throw loss;
}
