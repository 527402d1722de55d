/**
 * Tries settings of the kernels on the device, at the model's own shapes and on its own weights, and names the fastest whose
 * results are those of the form in use, bit for bit. Owns how that is measured and compared; what is tried is kernels/tuning.ts,
 * where it is kept tuning-shelf.ts. Writes only what every pass writes before it reads it: never a cache.
 */
import { whenAborted } from '../aborts';
import type { ModelManifest } from '../checkpoint/manifest';
import type { Pager } from '../experts/pager';
import type { GpuDevice } from '../gpu/device';
import type { DeviceBuffer } from '../gpu/memory';
import { type ReadbackPart, Submission } from '../gpu/pass';
import { encodeWords } from '../gpu/uniforms';
import { listCandidates, type Tuning, type TuningSetting, tuneVariant } from '../kernels/tuning';
import type { Variant } from '../kernels/variant';
import { createCompileProgress } from '../model/compile-progress';
import type { Forward } from '../model/forward';
import { productKernels } from '../model/product-kernels';
import { NO_FAULT, type RunState } from '../model/run-state';
import type { PassForm } from '../model/steps';
import { LateTileKernels } from '../model/tile-kernels';
import type { MemoryPlan } from './memory-plan';

/** Of a runtime. */
export interface TrialTarget {
  readonly device: GpuDevice;
  readonly manifest: ModelManifest;
  readonly plan: MemoryPlan;
  readonly variant: Variant;
  readonly tuning: { readonly values: Tuning };
  readonly state: RunState;
  readonly step: DeviceBuffer;
  readonly pager: Pager;
  readonly forward: Forward;
}

/** A value of a setting, and the form that its kernels are compiled in. */
export interface Candidate {
  readonly setting: TuningSetting;
  readonly value: number;
  readonly variant: Variant;
}

export interface TrialResult {
  /** The fastest value of each setting that was tried. */
  readonly tuning: Partial<Tuning>;
  /** Medians, in milliseconds of a pass's dispatches of these kernels; the value in use first. */
  readonly timings: readonly { readonly setting: TuningSetting; readonly value: number; readonly passMs: number }[];
  /** What was left out, and why. */
  readonly warnings: readonly string[];
}

/** A batch takes about so long: above the steps of browsers' clocks, far below what someone who comes back would notice. */
const BATCH_MS = 2;
const MOST_REPEATS = 64;
/** Rounds in which every candidate of a setting has its turn, until they have taken so long together. */
const SETTING_MS = 40;
const LEAST_ROUNDS = 3;
const MOST_ROUNDS = 9;
/** A candidate has to be so much faster than what is in use: less is noise. */
const LEAST_GAIN = 0.95;

/** Rows of a trial in tiles: enough to fill a GPU, and one tile on a CPU. */
const TILED_TRIAL_ROWS = { gpu: 128, software: 16 } as const;

type Named = { [K in keyof RunState]: RunState[K] extends DeviceBuffer ? K : never }[keyof RunState];

interface TrialKind {
  readonly form: PassForm;
  readonly kernels: ReadonlySet<string>;
  /** What these kernels write. */
  readonly outputs: readonly Named[];
}

const MATRIX_OUTPUTS = ['residual', 'qkv', 'queryDown'] as const;
const EXPERT_OUTPUTS = ['act', 'expertOutputs'] as const;

const KINDS: Readonly<Record<TuningSetting, TrialKind>> = {
  rowTiles: {
    form: 'rows',
    kernels: new Set(['matvec', 'head_matvec', 'mlp_gate_up']),
    outputs: [...MATRIX_OUTPUTS, 'latentQueries', 'headValues', 'mlpAct', 'logits'],
  },
  expertTiles: { form: 'rows', kernels: new Set(['expert_gate_up', 'expert_down']), outputs: EXPERT_OUTPUTS },
  matmulLanes: { form: 'tiles', kernels: new Set(['matmul']), outputs: MATRIX_OUTPUTS },
  expertLanes: {
    form: 'tiles',
    // The lists of tokens that the experts' kernels go by are made layer by layer.
    kernels: new Set(['route_order', 'expert_gate_up_tiled', 'expert_down_tiled']),
    outputs: EXPERT_OUTPUTS,
  },
};

/** What all of them read that no product writes: the other kernels do not run here. */
const INPUTS: readonly Named[] = ['x', 'mixed', 'attentionSpans', 'expertInput', 'queryLatent', 'headInput'];

/** What a trial compares with what is in use. */
export function listTrialCandidates(
  { variant, device }: Pick<TrialTarget, 'variant' | 'device'>,
  settings: readonly TuningSetting[],
): Candidate[] {
  return settings.flatMap((setting) =>
    listCandidates(variant, setting, device.limits.maxComputeInvocationsPerWorkgroup).map((value) => ({
      setting,
      value,
      variant: tuneVariant(variant, setting, value),
    })),
  );
}

/**
 * No pass may run meanwhile.
 * @returns null where it was aborted, which it notices between two batches and while it compiles, and where a layer has no
 * expert yet.
 * @throws EngineError `DEVICE_LOST`, `GPU_ERROR`
 */
export async function runTrial(
  target: TrialTarget,
  candidates: readonly Candidate[],
  signal?: AbortSignal,
): Promise<TrialResult | null> {
  const tuning: Partial<Record<TuningSetting, number>> = {};
  const timings: TrialResult['timings'][number][] = [];
  const warnings: string[] = [];
  if (target.manifest.config.moeLayers.some((_, moe) => target.pager.getResidents(moe).length === 0)) return null;
  const aborted = signal ? whenAborted(signal) : new Promise<null>(() => {});
  if (candidates.some(({ setting }) => KINDS[setting].form === 'tiles')) {
    await Promise.race([target.forward.kernels.tiles.load(), aborted]);
    if (signal?.aborted) return null;
  }
  for (const setting of new Set(candidates.map((candidate) => candidate.setting))) {
    const bench = new TrialBench(target, setting);
    const own = { value: target.tuning.values[setting], forward: target.forward };
    const expected = await bench.compute(own.forward);
    const contestants = [own];
    for (const candidate of candidates.filter((one) => one.setting === setting && one.value !== own.value)) {
      const forward = await Promise.race([compileFor(target, candidate), aborted]);
      if (!forward || signal?.aborted) return null;
      if (isEqual(await bench.compute(forward), expected)) contestants.push({ value: candidate.value, forward });
      else {
        warnings.push(
          `${setting} ${candidate.value} gives other bits than ${own.value} on ${target.device.description}, and is left out: ` +
            'please report it',
        );
      }
    }
    const medians = await bench.time(
      contestants.map(({ forward }) => forward),
      signal,
    );
    if (!medians) return null;
    const [ownMs = 0] = medians;
    const fastestMs = Math.min(...medians);
    const winner = fastestMs < ownMs * LEAST_GAIN ? contestants[medians.indexOf(fastestMs)] : own;
    tuning[setting] = winner?.value ?? own.value;
    for (const [i, { value }] of contestants.entries()) timings.push({ setting, value, passMs: medians[i] as number });
  }
  return { tuning, timings, warnings };
}

/** The model's passes with one setting's kernels of another form. */
async function compileFor(target: TrialTarget, { setting, variant }: Candidate): Promise<Forward> {
  const { device, manifest, plan, forward } = target;
  const model = { device, variant, manifest, weights: plan.weights, state: plan.state };
  const progress = createCompileProgress(() => {});
  const { kernels } = forward;
  if (setting === 'rowTiles' || setting === 'expertTiles') {
    return forward.withKernels({ ...kernels, ...(await productKernels[setting](model, progress)) });
  }
  const own = await productKernels[setting](model, progress);
  const tiles = new LateTileKernels(async () => ({ ...kernels.tiles.get(), ...own }));
  await tiles.load();
  return forward.withKernels({ ...kernels, tiles });
}

/** One setting's kernels at the model's shapes. */
class TrialBench {
  readonly #kind: TrialKind;
  readonly #rows: number;
  /** Between -1.25 and 1.25, none of them near 0; magnitudes alone are what attention's spans may be. */
  readonly #pattern: Float32Array<ArrayBuffer>;

  constructor(
    private readonly target: TrialTarget,
    private readonly setting: TuningSetting,
  ) {
    const { device, plan, state } = target;
    this.#kind = KINDS[setting];
    const most = device.traits.isSoftware ? TILED_TRIAL_ROWS.software : TILED_TRIAL_ROWS.gpu;
    this.#rows = this.#kind.form === 'tiles' ? Math.min(most, plan.state.rows) : 1;
    const bytes = Math.max(...[...INPUTS, ...this.#kind.outputs].map((name) => state[name].size));
    this.#pattern = createPattern(bytes / 4);
    for (const name of INPUTS) this.#fill(name);
    device.handle.queue.writeBuffer(state.routeIds, 0, this.#chooseRoutes());
  }

  /** What the kernels write, whole: the buffers are filled before, so that what is left out shows. */
  async compute(forward: Forward): Promise<Uint32Array> {
    const { device, state } = this.target;
    for (const name of this.#kind.outputs) this.#fill(name);
    const submission = this.#encode(forward, 1);
    // Scoped: a form that the device refuses must not count as an error of the engine's own.
    device.handle.pushErrorScope('validation');
    submission.submit();
    const error = await device.handle.popErrorScope();
    if (error) throw new Error(`the GPU refused a form of ${[...this.#kind.kernels].join(', ')}: ${error.message}`);
    return readWhole(
      device,
      this.#kind.outputs.map((name) => state[name]),
      state.readback,
    );
  }

  /** Median milliseconds of a pass's dispatches by each, in turns; null where it was aborted. */
  async time(forwards: readonly Forward[], signal: AbortSignal | undefined): Promise<number[] | null> {
    const times = forwards.map((): number[] => []);
    const [first] = forwards;
    const onceMs = first ? await this.#run(first, 1) : BATCH_MS;
    const repeats = Math.max(1, Math.min(MOST_REPEATS, Math.ceil(BATCH_MS / Math.max(onceMs, 1e-3))));
    const startMs = performance.now();
    for (let round = 0; round < MOST_ROUNDS; round++) {
      if (round >= LEAST_ROUNDS && performance.now() - startMs > SETTING_MS) break;
      for (const [i, forward] of forwards.entries()) {
        if (signal?.aborted) return null;
        times[i]?.push((await this.#run(forward, repeats)) / repeats);
      }
    }
    return times.map((own) => own.sort((a, b) => a - b)[own.length >> 1] as number);
  }

  /** Milliseconds until the device is through. */
  async #run(forward: Forward, repeats: number): Promise<number> {
    const { control, readback } = this.target.state;
    const submission = this.#encode(forward, repeats);
    const startMs = performance.now();
    await submission.submitAndRead([{ source: control, offsetBytes: 0, sizeBytes: 16 }], readback);
    return performance.now() - startMs;
  }

  #encode(forward: Forward, repeats: number): Submission {
    const { device, manifest, state, step } = this.target;
    const { queue } = device.handle;
    queue.writeBuffer(state.control, 0, Uint32Array.of(NO_FAULT, 0, 0, 0));
    queue.writeBuffer(step, 0, encodeWords([this.#rows, 0, 1], 16));
    const submission = new KernelSubmission(device, this.#kind.kernels);
    for (let i = 0; i < repeats; i++) {
      const start = { layer: 0, stage: 'attention' } as const;
      forward.encodeLayers(submission, this.#kind.form, start, manifest.config.layers, this.#rows);
      if (this.setting === 'rowTiles') forward.encodeHead(submission, 'rows', 0, 1);
    }
    return submission;
  }

  #fill(name: Named): void {
    const { device, state } = this.target;
    const values = this.#pattern.subarray(0, state[name].size / 4);
    device.handle.queue.writeBuffer(state[name], 0, name === 'attentionSpans' ? values.map(Math.abs) : values);
  }

  /** Experts that are resident, in turns: [moeLayers, rows, expertsPerToken]. */
  #chooseRoutes(): Uint32Array<ArrayBuffer> {
    const { moeLayers, moe } = this.target.manifest.config;
    const choices = this.#rows * moe.expertsPerToken;
    return Uint32Array.from({ length: moeLayers.length * choices }, (_, i) => {
      const residents = this.target.pager.getResidents(Math.floor(i / choices));
      return residents[i % residents.length] as number;
    });
  }
}

/** Dispatches of a few kernels alone. */
class KernelSubmission extends Submission {
  constructor(
    device: GpuDevice,
    private readonly kernels: ReadonlySet<string>,
  ) {
    super(device);
  }

  override dispatch(pipeline: GPUComputePipeline, bindGroup: GPUBindGroup, x: number, y = 1, z = 1): void {
    if (this.kernels.has(pipeline.label)) super.dispatch(pipeline, bindGroup, x, y, z);
  }
}

function createPattern(length: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    const hash = Math.imul(i + 1, 0x9e3779b1) >>> 0;
    values[i] = (0.25 + (hash >>> 9) / 2 ** 23) * (hash & 1 ? 1 : -1);
  }
  return values;
}

/** Buffers one after another, by as many read-backs as they need. */
async function readWhole(
  device: GpuDevice,
  buffers: readonly DeviceBuffer[],
  readback: DeviceBuffer,
): Promise<Uint32Array> {
  const words = new Uint32Array(buffers.reduce((sum, { size }) => sum + size / 4, 0));
  const parts = buffers.flatMap((source): ReadbackPart[] =>
    Array.from({ length: Math.ceil(source.size / readback.size) }, (_, i) => {
      const offsetBytes = i * readback.size;
      return { source, offsetBytes, sizeBytes: Math.min(readback.size, source.size - offsetBytes) };
    }),
  );
  let done = 0;
  while (parts.length > 0) {
    const batch: ReadbackPart[] = [];
    let bytes = 0;
    for (let part = parts[0]; part && bytes + part.sizeBytes <= readback.size; part = parts[0]) {
      batch.push(part);
      bytes += part.sizeBytes;
      parts.shift();
    }
    const read = new Uint32Array(await new Submission(device).submitAndRead(batch, readback));
    words.set(read, done);
    done += read.length;
  }
  return words;
}

/** Megabytes: a loop is several times as fast here as a callback for each word. */
function isEqual(a: Uint32Array, b: Uint32Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
