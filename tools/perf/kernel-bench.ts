/**
 * Times the dispatches of one model's passes one kind at a time, and the device's limits beside them.
 * Owns how a dispatch is timed; what it moves and computes is kernel-work.ts.
 */
import { PassRunner } from '../../src/engine/pass-runner';
import type { Runtime } from '../../src/engine/runtime';
import { assert } from '../../src/errors';
import { encodeWords } from '../../src/gpu/uniforms';
import type { PassForm } from '../../src/model/steps';
import { listMatrices } from '../../src/model/weights';
import { getSamplingWords, resolveSampling } from '../../src/sampling/sampling';
import { openLimits } from './device-limits';
import { type BufferCopy, type DispatchWatch, type RecordedDispatch, RecordingSubmission } from './dispatch-watch';
import { getKernelWork, type PassShape } from './kernel-work';
import type { KernelKind, KernelSession } from './protocol';

/** A batch of dispatches takes about so long: far above the steps of browsers' clocks. */
const BATCH_MS = 20;
const MOST_REPEATS = 4000;
const EMPTY_TRIALS = 9;

/** Position of the decoded token. */
const DECODE_POSITION = 511;

type Work = RecordedDispatch | BufferCopy;

interface TimedKind extends KernelKind {
  /** One per layer, or per part of a matrix: a batch takes them in turn, so that none finds its weights in a cache. */
  readonly work: readonly Work[];
  /** Tells the kernels which pass they belong to. */
  readonly prepare: () => void;
  repeats: number | undefined;
}

export interface KernelBench extends KernelSession {
  /** Milliseconds of a dispatch of a kind. */
  time(index: number): Promise<number>;
  close(): void;
}

/** @param prefillRows tokens of the prompt; enough for tiles. */
export async function openKernelBench(
  runtime: Runtime,
  watch: DispatchWatch,
  prefillRows: number,
): Promise<KernelBench> {
  const { device } = runtime;
  const limits = await openLimits(device);
  const timer = await createTimer(device.handle, limits.kernels[0]?.work);
  const kinds: TimedKind[] = [
    ...limits.kernels.map(({ work, ...kind }) => ({
      ...kind,
      work: [work],
      prepare: () => {},
      repeats: undefined,
    })),
    ...(await recordPass(runtime, watch, 'rows', 1)),
    ...(await recordPass(runtime, watch, 'tiles', Math.min(prefillRows, runtime.plan.state.rows))),
  ];
  return {
    kinds: kinds.map(({ row, bytes, flops }) => ({ row, bytes, flops })),
    usesTimestamps: timer.usesTimestamps,
    async time(index) {
      const kind = kinds[index];
      assert(kind, `${index} is one of ${kinds.length} kinds`);
      kind.prepare();
      kind.repeats ??= await findRepeats(timer, kind.work);
      return (await timer.time(kind.work, kind.repeats)) / kind.repeats;
    },
    close() {
      timer.close();
      limits.free();
    },
  };
}

/** Runs a pass as the engine does, and records the same commands by kind. */
async function recordPass(runtime: Runtime, watch: DispatchWatch, form: PassForm, rows: number): Promise<TimedKind[]> {
  const { device, forward, manifest, plan } = runtime;
  const { config } = manifest;
  const isPrefill = form === 'tiles';
  const position = isPrefill ? 0 : Math.min(DECODE_POSITION, plan.state.contextLength - 1);
  const { routes } = await new PassRunner(runtime).run(
    {
      tokenIds: Array.from({ length: rows }, (_, i) => (i * 7919 + 1) % config.vocabSize),
      position,
      logitRows: 1,
      sampling: getSamplingWords(resolveSampling({ temperature: 0.7, seed: 1 }), config.vocabSize, position + rows),
      readLogits: false,
      isChunk: isPrefill,
    },
    { segmentLayers: Number.POSITIVE_INFINITY, runAhead: 0, getExpected: () => [] },
  );
  const submission = new RecordingSubmission(device);
  forward.encodeEmbed(submission, rows);
  forward.encodeLayers(submission, form, { layer: 0, stage: 'attention' }, config.layers, rows);
  forward.encodeHead(submission, 'rows', rows - 1, 1);
  forward.encodeSample(submission, 1);

  const moeLayers = config.moeLayers.length;
  const perLayer = routes.length / moeLayers;
  const distinct = Array.from(
    { length: moeLayers },
    (_, layer) => new Set(routes.subarray(layer * perLayer, (layer + 1) * perLayer)).size,
  );
  const distinctExperts = distinct.reduce((sum, count) => sum + count, 0) / moeLayers;
  // The head and the sampler of a prompt are those of decoding.
  const own = submission.dispatches.filter(
    ({ bindGroup }) =>
      !isPrefill || !watch.getBuffers(bindGroup).some(({ label }) => /^(logits|headInput)$/.test(label)),
  );
  const pass: PassShape = { rows, position, distinctExperts };
  return groupByKind(own, runtime, watch).map(({ name, dispatches }) => ({
    row: `${isPrefill ? 'prefill' : 'decode'}: ${name}`,
    ...averageWork(runtime, watch, dispatches, pass),
    work: dispatches,
    prepare: () => device.handle.queue.writeBuffer(runtime.step, 0, encodeWords([rows, position, 1], 16)),
    repeats: undefined,
  }));
}

interface NamedDispatches {
  readonly name: string;
  readonly dispatches: RecordedDispatch[];
}

/** By kernel, and by what its matrix is where a kernel has several. */
function groupByKind(
  dispatches: readonly RecordedDispatch[],
  { plan }: Runtime,
  watch: DispatchWatch,
): NamedDispatches[] {
  const matrices = new Set(listMatrices(plan.weights).map(({ label }) => label));
  const groups = new Map<string, NamedDispatches>();
  for (const dispatch of dispatches) {
    const matrix = watch.getBuffers(dispatch.bindGroup).find(({ label }) => matrices.has(label))?.label;
    // Without the number of its layer or part.
    const role = /^mat(vec|mul)$/.test(dispatch.kernel) && matrix ? `, ${matrix.replace(/ (\d+|from \d+)$/, '')}` : '';
    const name = dispatch.kernel + role;
    const group = groups.get(name) ?? { name, dispatches: [] };
    groups.set(name, group);
    group.dispatches.push(dispatch);
  }
  return [...groups.values()];
}

function averageWork(
  { manifest, plan }: Runtime,
  watch: DispatchWatch,
  dispatches: readonly RecordedDispatch[],
  pass: PassShape,
): { bytes: number; flops: number } {
  const model = { manifest, weights: plan.weights, state: plan.state };
  const all = dispatches.map(({ kernel, bindGroup }) =>
    getKernelWork(model, kernel, watch.getBuffers(bindGroup), pass),
  );
  const average = (get: (work: (typeof all)[number]) => number): number =>
    all.reduce((sum, work) => sum + get(work), 0) / all.length;
  return { bytes: average(({ bytes }) => bytes), flops: average(({ flops }) => flops) };
}

interface Timer {
  readonly usesTimestamps: boolean;
  /** Milliseconds of a batch: so many dispatches, taken in turn. */
  time(work: readonly Work[], count: number): Promise<number>;
  close(): void;
}

/** The first batch pays for what happens once; the second, where that was short, says how many dispatches a batch needs. */
async function findRepeats(timer: Timer, work: readonly Work[]): Promise<number> {
  const firstMs = await timer.time(work, 1);
  if (firstMs > 10 * BATCH_MS) return 1;
  const onceMs = (await timer.time(work, work.length)) / work.length;
  const repeats = Math.ceil(BATCH_MS / Math.max(onceMs, BATCH_MS / MOST_REPEATS));
  return Math.max(1, Math.min(MOST_REPEATS, repeats));
}

/** Timestamps of the GPU where it has them and they move; otherwise the clock, less what an empty submission takes. */
async function createTimer(device: GPUDevice, probe: Work | undefined): Promise<Timer> {
  const stamps = device.features.has('timestamp-query') ? createStamps(device) : null;
  const run = async (work: readonly Work[], count: number): Promise<number> => {
    const encoder = device.createCommandEncoder();
    for (const [i, writes] of (stamps?.writes ?? [undefined, undefined]).entries()) {
      const pass = encoder.beginComputePass(writes ? { timestampWrites: writes } : {});
      if (i === 0) encodeDispatches(pass, work, count);
      pass.end();
      // Copies are in no pass: they lie between the first timestamp, of an empty one, and the last.
      if (i === 0) encodeCopies(encoder, work, count);
    }
    stamps?.resolve(encoder);
    const startMs = performance.now();
    device.queue.submit([encoder.finish()]);
    await device.queue.onSubmittedWorkDone();
    return performance.now() - startMs;
  };
  if (stamps) {
    const timer: Timer = {
      usesTimestamps: true,
      async time(work, count) {
        await run(work, count);
        return stamps.read();
      },
      close: () => stamps.destroy(),
    };
    if (probe && (await timer.time([probe], 1)) > 0) return timer;
  }
  const emptyMs: number[] = [];
  for (let trial = 0; trial < EMPTY_TRIALS; trial++) emptyMs.push(await run([], 0));
  const [medianMs = 0] = emptyMs.sort((a, b) => a - b).slice(EMPTY_TRIALS >> 1);
  return {
    usesTimestamps: false,
    time: async (work, count) => Math.max(0, (await run(work, count)) - medianMs),
    close: () => {},
  };
}

function encodeDispatches(pass: GPUComputePassEncoder, work: readonly Work[], count: number): void {
  for (let i = 0; i < count; i++) {
    const one = work[i % work.length];
    if (!one || 'source' in one) continue;
    pass.setPipeline(one.pipeline);
    pass.setBindGroup(0, one.bindGroup);
    pass.dispatchWorkgroups(...one.grid);
  }
}

function encodeCopies(encoder: GPUCommandEncoder, work: readonly Work[], count: number): void {
  for (let i = 0; i < count; i++) {
    const one = work[i % work.length];
    if (one && 'source' in one) encoder.copyBufferToBuffer(one.source, 0, one.target, 0, one.source.size);
  }
}

interface Stamps {
  /** Of the first pass of a batch, and of the empty one behind it. */
  readonly writes: readonly [GPUComputePassTimestampWrites, GPUComputePassTimestampWrites];
  resolve(encoder: GPUCommandEncoder): void;
  /** Milliseconds between the last two. */
  read(): Promise<number>;
  destroy(): void;
}

function createStamps(device: GPUDevice): Stamps {
  const [MAP_READ, COPY_SRC, COPY_DST, QUERY_RESOLVE] = [0x1, 0x4, 0x8, 0x200];
  const querySet = device.createQuerySet({ type: 'timestamp', count: 2 });
  const resolved = device.createBuffer({ size: 16, usage: QUERY_RESOLVE | COPY_SRC });
  const readback = device.createBuffer({ size: 16, usage: MAP_READ | COPY_DST });
  return {
    writes: [
      { querySet, beginningOfPassWriteIndex: 0 },
      { querySet, endOfPassWriteIndex: 1 },
    ],
    resolve(encoder) {
      encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, readback, 0, 16);
    },
    async read() {
      await readback.mapAsync(1);
      const [begin = 0n, end = 0n] = new BigUint64Array(readback.getMappedRange());
      readback.unmap();
      return Number(end - begin) / 1e6;
    },
    destroy() {
      querySet.destroy();
      resolved.destroy();
      readback.destroy();
    },
  };
}
