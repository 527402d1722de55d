/** Installs a model into memory and puts it on the GPU. Owns set-up only; tests say what must hold. */
import type { PassPlan } from '../../src/engine/pass';
import { PassRunner } from '../../src/engine/pass-runner';
import { createRuntime, type Runtime, type RuntimeRequest } from '../../src/engine/runtime';
import type { DeviceOptions } from '../../src/gpu/device';
import { installModel } from '../../src/store/install';
import { createMemorySource } from '../../src/store/memory-source';
import { createMemoryStore } from '../../src/store/memory-store';
import { createVerifiedReader } from '../../src/store/verified-reader';
import { readGoldenModel } from '../golden';
import { sharedGpu } from './shared-gpu';

export interface GoldenRuntime {
  readonly runtime: Runtime;
  readonly runner: PassRunner;
}

type Options = RuntimeRequest & Pick<DeviceOptions, 'defaultLimitsOnly' | 'subgroupMatrix'>;

export async function openGolden(name: string, options: Options = {}): Promise<GoldenRuntime> {
  return openFile(await readGoldenModel(name), options);
}

/** @param file a GGUF. */
export async function openFile(file: Uint8Array<ArrayBuffer>, options: Options = {}): Promise<GoldenRuntime> {
  const store = createMemoryStore();
  const { manifest } = await installModel(createMemorySource(file, 'test'), store);
  const reader = createVerifiedReader(store, manifest);
  const { defaultLimitsOnly = false, subgroupMatrix = false, ...request } = options;
  const device = { gpu: sharedGpu, defaultLimitsOnly, subgroupMatrix };
  const runtime = await createRuntime(manifest, reader, device, request, () => {});
  return { runtime, runner: new PassRunner(runtime) };
}

/** A pass in one submission that guesses nothing. */
const WHOLE_PASS: PassPlan = { segmentLayers: Number.POSITIVE_INFINITY, runAhead: 0, getExpected: () => [] };

/** Experts in router order: [moeLayers, tokens, expertsPerToken]. At most as many tokens as a pass has rows. */
export async function readRoutes({ runner }: GoldenRuntime, tokenIds: readonly number[]): Promise<Uint32Array> {
  const request = { tokenIds, position: 0, logitRows: 0, sampling: null, readLogits: false, isChunk: true };
  return (await runner.run(request, WHOLE_PASS)).routes;
}

/**
 * Logits of every position: [positions][vocab]. Runs in chunks, as prefill does.
 * @param most rows of a chunk, where that is to be less.
 */
export async function computeLogits(
  { runtime, runner }: GoldenRuntime,
  tokenIds: readonly number[],
  most = Number.POSITIVE_INFINITY,
): Promise<Float32Array[]> {
  const { vocabSize } = runtime.manifest.config;
  const { rows, logitRows } = runtime.plan.state;
  const all: Float32Array[] = [];
  const chunkRows = Math.min(rows, logitRows, most);
  for (let at = 0; at < tokenIds.length; at += chunkRows) {
    const chunk = tokenIds.slice(at, at + chunkRows);
    const { logits } = await runner.run(
      { tokenIds: chunk, position: at, logitRows: chunk.length, sampling: null, readLogits: true, isChunk: true },
      WHOLE_PASS,
    );
    for (let row = 0; row < chunk.length; row++) {
      all.push((logits as Float32Array).slice(row * vocabSize, (row + 1) * vocabSize));
    }
  }
  return all;
}

/** Largest difference of any logit, as a share of the largest logit. */
export function getRelativeDifference(actual: Float32Array, expected: Float32Array): number {
  let largest = 0;
  let difference = 0;
  for (const [i, value] of expected.entries()) {
    largest = Math.max(largest, Math.abs(value));
    difference = Math.max(difference, Math.abs(value - (actual[i] as number)));
  }
  return difference / largest;
}
