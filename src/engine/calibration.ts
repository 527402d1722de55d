/**
 * Measures what paging weighs its choices by, once per load. Touches speed only: no result depends on it.
 */
import type { GpuDevice } from '../gpu/device';
import { Submission } from '../gpu/pass';
import type { RunState } from '../model/run-state';

const TRIALS = 5;

/** Median time of a submission that copies a few bytes and is read back, in milliseconds. */
export async function measureRoundTrip(device: GpuDevice, state: RunState): Promise<number> {
  const timesMs: number[] = [];
  for (let trial = 0; trial < TRIALS; trial++) {
    const start = performance.now();
    const submission = new Submission(device);
    await submission.submitAndRead([{ source: state.control, offsetBytes: 0, sizeBytes: 4 }], state.readback);
    timesMs.push(performance.now() - start);
  }
  timesMs.sort((a, b) => a - b);
  return timesMs[TRIALS >> 1] as number;
}
