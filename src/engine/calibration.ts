/**
 * Measures what paging weighs its choices by, once per load. Touches speed only: no result depends on it.
 */
import type { GpuDevice } from '../gpu/device';
import { Submission } from '../gpu/pass';
import type { Forward } from '../model/forward';
import { NO_FAULT, type RunState } from '../model/run-state';

const TRIALS = 5;
/** Uploads of one trial: one alone is lost in the round trip that proves its arrival. */
const UPLOADS = 8;

export interface Calibration {
  /**
   * A segment's submission and its read-back, in milliseconds: one layer's kernels that find the fault word and return, then
   * the record that a token's segment gives. An empty submission would be cheaper than any that runs something.
   */
  readonly roundTripMs: number;
  /** One more layer behind a fault. */
  readonly deadLayerMs: number;
  /** From host RAM to the GPU. */
  readonly uploadBytesPerMs: number;
}

export interface CalibrationTarget {
  readonly device: GpuDevice;
  readonly state: RunState;
  readonly forward: Forward;
  readonly layers: number;
  /** First layer with experts. */
  readonly firstLayer: number;
  /** [moeLayers, expertsPerToken] u32 of a token's record. */
  readonly routeWords: number;
  /** Writes one page that is resident already, and gives its bytes' count. */
  rewritePage(): number;
}

/** The uniform `step` says one row at position 0. */
export async function calibrate(target: CalibrationTarget): Promise<Calibration> {
  const { device, state, forward, layers, firstLayer, routeWords } = target;
  const record = [
    { source: state.control, offsetBytes: 0, sizeBytes: 16 },
    { source: state.routeIds, offsetBytes: 0, sizeBytes: routeWords * 4 },
  ];
  const { queue } = device.handle;
  const measure = async (encode: (submission: Submission) => void): Promise<number> => {
    const timesMs: number[] = [];
    for (let trial = 0; trial < TRIALS; trial++) {
      const start = performance.now();
      const submission = new Submission(device);
      encode(submission);
      await submission.submitAndRead(record, state.readback);
      timesMs.push(performance.now() - start);
    }
    timesMs.sort((a, b) => a - b);
    return timesMs[TRIALS >> 1] as number;
  };
  // A fault in the first MoE layer: nothing runs from its experts on.
  queue.writeBuffer(state.control, 0, Uint32Array.of(0, 0, 0));
  const encodeDead = (submission: Submission, until: number): void =>
    forward.encodeLayers(submission, 'rows', { layer: firstLayer, stage: 'experts' }, until, 1);
  const emptyMs = await measure(() => {});
  const roundTripMs = await measure((submission) => encodeDead(submission, Math.min(firstLayer + 1, layers)));
  const wholeMs = await measure((submission) => encodeDead(submission, layers));
  let uploadedBytes = 0;
  const uploadMs = await measure(() => {
    uploadedBytes = 0;
    for (let upload = 0; upload < UPLOADS; upload++) uploadedBytes += target.rewritePage();
  });
  queue.writeBuffer(state.control, 0, Uint32Array.of(NO_FAULT, 0, 0));
  return {
    roundTripMs: Math.max(roundTripMs, emptyMs),
    deadLayerMs: Math.max(0, wholeMs - roundTripMs) / Math.max(1, layers - firstLayer - 1),
    // Timers are coarse: what is too short to see counts as a hundredth of a millisecond.
    uploadBytesPerMs: uploadedBytes / Math.max(0.01, uploadMs - emptyMs),
  };
}
