/**
 * A model on a GPU: everything that a pass needs, made once at load. Owns the GPU's memory; knows no prompt and no text.
 */
import { orAborted, throwIfAborted } from '../aborts';
import { getPageKey, type ModelManifest } from '../checkpoint/manifest';
import { listGroupLayers } from '../checkpoint/model-config';
import { EngineError } from '../errors';
import { createEviction, type EvictionName } from '../experts/eviction-policies';
import { HostCache } from '../experts/host-cache';
import { PageTable } from '../experts/page-table';
import { Pager } from '../experts/pager';
import { getGroupPoolRequests, SlotPool } from '../experts/slot-pool';
import { type DeviceOptions, type GpuDevice, openDevice } from '../gpu/device';
import { type DeviceBuffer, GpuMemory } from '../gpu/memory';
import { StagingRing } from '../gpu/staging-ring';
import { encodeWords } from '../gpu/uniforms';
import { chooseKvType, type KvChoice } from '../kernels/kv-type';
import { formatTuning } from '../kernels/tuning';
import { chooseVariant, type KernelOptions, type Variant } from '../kernels/variant';
import { Draft } from '../model/draft';
import { Forward } from '../model/forward';
import { compileKernels } from '../model/kernel-set';
import { createRunState, type RunState } from '../model/run-state';
import type { LateTileKernels } from '../model/tile-kernels';
import { listMatrices, loadWeights } from '../model/weights';
import type { ModelStore } from '../store/model-store';
import type { RecordReader } from '../store/verified-reader';
import { type Calibration, calibrate } from './calibration';
import type { LoadProgress, StagingChoice } from './engine';
import { getMemoryLimits, type MemoryPlan, type MemoryRequest, planMemory } from './memory-plan';
import { type ChosenTuning, resolveTuning, tryAtLoad } from './runtime-tuning';
import { chooseStagingPages } from './staging-choice';
import type { TuningShelf } from './tuning-shelf';

export interface RuntimeRequest extends Omit<MemoryRequest, 'kvType' | 'stagingPages'> {
  /** Default `f32`. */
  readonly kvType?: KvChoice | undefined;
  /** Pages kept in host RAM between the store and the GPU, in bytes. */
  readonly hostCacheBytes?: number | undefined;
  /** Those pages, where they are to outlive the runtime. */
  readonly host?: HostCache | undefined;
  /** Default `rates`. */
  readonly eviction?: EvictionName | undefined;
  /** What is forced of the kernels' form. */
  readonly kernels?: KernelOptions | undefined;
  /** Whether pages are read straight into mapped GPU memory. Default `auto`. */
  readonly staging?: StagingChoice | undefined;
  /** The store that the pages are in, where what is measured is remembered; absent: `auto` staging is off. */
  readonly notes?: Pick<ModelStore, 'readState' | 'writeState'> | null | undefined;
  /** What the store may hold of the model; for the statistics. */
  readonly storeBudgetBytes?: number | undefined;
  /** Where trials of the kernels' settings are kept; without it there is none. */
  readonly tunings?: TuningShelf | undefined;
}

export interface Runtime {
  readonly device: GpuDevice;
  readonly memory: GpuMemory;
  readonly manifest: ModelManifest;
  /** What the plan was asked for; a changed expert budget changes the plan, not this. */
  readonly request: RuntimeRequest & MemoryRequest;
  plan: MemoryPlan;
  readonly variant: Variant;
  readonly tuning: ChosenTuning;
  readonly state: RunState;
  readonly step: DeviceBuffer;
  readonly sampling: DeviceBuffer;
  readonly pool: SlotPool;
  readonly staging: StagingRing;
  readonly pager: Pager;
  readonly host: HostCache;
  readonly reader: RecordReader;
  readonly forward: Forward;
  readonly draft: Draft;
  /** Kernels of passes in tiles, which are compiled late. */
  readonly tiles: LateTileKernels;
  /** Measured at load. */
  readonly calibration: Calibration;
  destroy(): void;
}

/** @throws EngineError; nothing stays allocated. */
export async function createRuntime(
  manifest: ModelManifest,
  reader: RecordReader,
  deviceOptions: DeviceOptions,
  request: RuntimeRequest,
  onProgress: (progress: LoadProgress) => void,
  signal?: AbortSignal,
): Promise<Runtime> {
  const opening = openDevice(deviceOptions);
  const device = await orAborted(opening, signal).catch((error) => {
    void opening.then((late) => late.destroy()).catch(() => {});
    throw error;
  });
  let isOver = false;
  // Kernels may still be compiling when something else has failed.
  const report = (progress: LoadProgress): void => {
    if (!isOver) onProgress(progress);
  };
  try {
    return await fillDevice(device, manifest, reader, request, report, signal);
  } catch (error) {
    isOver = true;
    const isAbort = error instanceof EngineError && error.code === 'ABORTED';
    const cause = isAbort ? error : ((await device.readLoss()) ?? device.getError() ?? error);
    device.destroy();
    throw cause;
  }
}

async function fillDevice(
  device: GpuDevice,
  manifest: ModelManifest,
  reader: RecordReader,
  { kvType, notes = null, ...others }: RuntimeRequest,
  onProgress: (progress: LoadProgress) => void,
  signal?: AbortSignal,
): Promise<Runtime> {
  const plain = { ...others, kvType: chooseKvType(device.traits.hasF16, kvType) };
  const { config, pageLayouts } = manifest;
  const variant = chooseVariant(device.traits, plain.kernels);
  const limits = getMemoryLimits(device.limits);
  const { bindingBytes } = limits;
  const onWarning = (message: string): void => onProgress({ phase: 'warning', message });
  const unstaged = planMemory(manifest, limits, plain);
  const memory = new GpuMemory(device, unstaged.totalBytes);
  const isPaged = unstaged.slotsPerLayer < config.moe.experts;
  const stagingTarget = { device, memory, manifest, reader, notes, isPaged, onWarning };
  const request = { ...plain, stagingPages: await chooseStagingPages(plain.staging ?? 'auto', stagingTarget) };
  const plan = planMemory(manifest, limits, request);
  memory.plannedBytes = plan.totalBytes;
  if (plan.warning) onWarning(plan.warning);

  const weightBuffers = await memory.allocate(plan.requests.weights);
  const stateBuffers = await memory.allocate(plan.requests.state);
  const [pageTableBuffer] = (await memory.allocate([plan.requests.pageTable])) as [DeviceBuffer];
  type Uniforms = [constants: DeviceBuffer, step: DeviceBuffer, sampling: DeviceBuffer];
  const [constants, step, sampling] = (await memory.allocate(plan.requests.uniforms)) as Uniforms;
  const staging = new StagingRing(device);
  staging.setBuffers(await memory.allocate(plan.requests.staging));
  const pool = new SlotPool(device, pageLayouts, bindingBytes);
  for (const group of pageLayouts.keys()) {
    const requests = getGroupPoolRequests(pageLayouts, group, plan.slotsPerLayer, bindingBytes);
    pool.setGroup(group, plan.slotsPerLayer, await memory.allocate(requests));
  }

  // The browser compiles beside the reading and uploading of weights.
  const model = { device, variant, manifest, weights: plan.weights, state: plan.state };
  const chosen = await resolveTuning(model, request.kernels, request.tunings);
  const compiling = compileKernels(model, chosen.values, (done, total) =>
    onProgress({ phase: 'compile', done, total }),
  );
  // What fails first is thrown; this is waited for below.
  compiling.catch(() => {});

  const host = request.host ?? new HostCache(reader, request.hostCacheBytes);
  const pageTable = new PageTable(device, pageTableBuffer, config.moe.experts);
  const pager = new Pager(
    config.moeLayers.length,
    config.moe,
    () =>
      createEviction(
        request.eviction ?? 'rates',
        config.moe.experts,
        config.moe.expertsPerToken * config.moe.layersPerGroup,
      ),
    pool,
    pageTable,
    host,
    staging,
  );

  let doneBytes = 0;
  const totalBytes =
    listMatrices(plan.weights).reduce((sum, matrix) => sum + matrix.sizeBytes, 0) +
    pageLayouts.reduce((sum, page) => sum + page.pageBytes * plan.slotsPerLayer, 0);
  const advance = (bytes: number): void => {
    doneBytes += bytes;
    onProgress({ phase: 'weights', doneBytes, totalBytes });
    throwIfAborted(signal);
  };
  const weights = await loadWeights(
    device,
    plan.weights,
    weightBuffers,
    (key) => orAborted(reader.read(key), signal),
    advance,
  );
  // Fill the slots: with a full budget that is every page; with a smaller one it spares the first tokens some faults.
  // Never with what a network would have to bring: that is fetched when it is needed.
  for (const group of pageLayouts.keys()) {
    const near = Array.from({ length: config.moe.experts }, (_, expert) => expert).filter(
      (expert) => reader.isLocal || reader.has(getPageKey(group, expert)),
    );
    const [moeLayer] = listGroupLayers(config.moe, group) as [number];
    advance(await pager.ensure(moeLayer, near.slice(0, plan.slotsPerLayer), signal));
  }

  const ropeFactors = await readRopeFactors(manifest, reader);
  const kernels = await orAborted(compiling, signal);
  const state = createRunState(device, config, plan.state, stateBuffers, ropeFactors);
  const untried = new Forward({
    device,
    manifest,
    kernels,
    weights,
    state,
    rowsCapacity: plan.state.rows,
    pool,
    poolPartsPerLayer: plan.poolPartsPerLayer,
    pageTable: pageTable.buffer,
    constants,
    step,
    sampling,
  });
  const { tuning, forward } = await tryAtLoad(
    { device, manifest, plan, variant, tuning: chosen, state, step, pager, forward: untried },
    onProgress,
    signal,
  );
  throwIfAborted(signal);
  const draft = new Draft({
    device,
    forward,
    state,
    step,
    sampling,
    layers: config.layers,
    routeBytes: config.moeLayers.length * config.moe.expertsPerToken * 4,
    logitBytes: config.vocabSize * 4,
  });
  // The slots were filled in order: the lowest resident expert is in the first slot, and its page is near. Without one the
  // slot is free, and takes anything.
  const [lowest] = pager.getResidents(0);
  const page = lowest === undefined ? new Uint8Array(pool.getPageBytes(0)) : await reader.read(getPageKey(0, lowest));
  device.handle.queue.writeBuffer(step, 0, encodeWords([1, 0], 16));
  const calibration = await calibrate({
    device,
    state,
    forward,
    layers: config.layers,
    firstLayer: config.moeLayers[0] as number,
    routeWords: config.moeLayers.length * config.moe.expertsPerToken,
    rewritePage() {
      pool.write(0, 0, page);
      return page.byteLength;
    },
  });
  return {
    device,
    memory,
    manifest,
    request,
    plan,
    variant,
    tuning,
    state,
    step,
    sampling,
    pool,
    staging,
    pager,
    host,
    reader,
    forward,
    draft,
    tiles: forward.kernels.tiles,
    calibration,
    destroy() {
      memory.freeAll();
      device.destroy();
    },
  };
}

async function readRopeFactors({ resident }: ModelManifest, reader: RecordReader): Promise<Float32Array | null> {
  const tensor = resident.find(({ role }) => role === 'ropeFactors');
  // A copy: the record may start anywhere in its buffer.
  return tensor ? new Float32Array((await reader.read(tensor.key)).slice().buffer) : null;
}

/** Names of the forms in use, for people and statistics. */
export function getVariants({
  variant,
  plan,
  tuning,
}: Pick<Runtime, 'variant' | 'plan' | 'tuning'>): Readonly<Record<string, string>> {
  return {
    kernels: variant.name,
    kv: plan.state.kvType,
    tuning: formatTuning(tuning.values),
    tuningFrom: tuning.source,
  };
}

/** What bits depend on beside model and request, named for people. */
export function getForm({ device, variant, plan }: Runtime): string {
  return `${device.description} (kernels ${variant.name}, keys and values ${plan.state.kvType})`;
}

/** Whether what one has computed is what the other would, bit for bit. */
export function isSameForm(a: Runtime, b: Runtime): boolean {
  return getForm(a) === getForm(b) && JSON.stringify(a.variant) === JSON.stringify(b.variant);
}
