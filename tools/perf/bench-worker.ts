/**
 * The bench in a worker, where the engine of a page runs too and files have sync access handles: one message a call.
 * Never measures by itself.
 */
import type { ForecastFiles, ModelSource } from '../../src/engine/engine';
import { openPathModel } from '../../src/worker/path-model';
import { createBench } from './bench';
import type { Bench, BenchOutcome } from './protocol';

/** The first message, and every later one. */
export interface BenchSetUp {
  readonly source: ModelSource;
  readonly forecast: ForecastFiles;
}
export interface BenchCall {
  readonly id: number;
  readonly method: keyof Bench;
  readonly args: readonly unknown[];
}
export interface BenchReply {
  readonly id: number;
  readonly outcome: BenchOutcome;
}

let bench: Bench | undefined;

async function call({ method, args }: BenchCall): Promise<BenchOutcome> {
  try {
    if (!bench) throw new Error('the first message sets the bench up');
    const run = bench[method] as (...values: readonly unknown[]) => Promise<unknown>;
    return { ok: true, result: await run(...args) };
  } catch (error) {
    const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'INTERNAL';
    return { ok: false, code, message: error instanceof Error ? error.message : String(error) };
  }
}

addEventListener('message', ({ data }: MessageEvent<BenchSetUp | BenchCall>) => {
  if ('source' in data) {
    bench = createBench({ ...data, openPathModel });
    return;
  }
  void call(data).then((outcome) => postMessage({ id: data.id, outcome } satisfies BenchReply));
});
