/**
 * What a tiny model of an architecture answers, and what must hold of it besides the oracle's logits: the same bits at the
 * smallest budget and with everything resident, prompts as token by token. Owns the passes; the tests name models and oracles.
 */
import { afterEach, expect } from 'vitest';
import { getLeastSlots } from '../../src/checkpoint/model-config';
import type { PassPlan } from '../../src/engine/pass';
import { PassRunner } from '../../src/engine/pass-runner';
import { createRuntime, type Runtime } from '../../src/engine/runtime';
import { installModel } from '../../src/store/install';
import { createMemoryStore } from '../../src/store/memory-store';
import { createVerifiedReader } from '../../src/store/verified-reader';
import type { Answers } from '../golden/drawn-weights';
import { getRelativeDifference } from './golden-runtime';
import { checkDispatches } from './layer-dispatches';
import { sharedGpu } from './shared-gpu';

export const isFull = Boolean(import.meta.env.WEBMOE_FULL);

/** Of what decoding gives from what prefill gives: largest difference of any logit, as a share of the largest logit. */
const PREFILL_TOLERANCE = 1e-4;
/** Tokens that are also fed one by one: in full the whole long prompt, else a chunk that streams. */
const COMPARED_TOKENS = isFull ? 130 : 18;

/** A pass in one submission that guesses nothing, and one that is cut and runs ahead wherever it can. */
export const WHOLE: PassPlan = { segmentLayers: Number.POSITIVE_INFINITY, runAhead: 0, getExpected: () => [] };
const AHEAD: PassPlan = { segmentLayers: 2, runAhead: 0xffffffff, getExpected: () => [] };

export interface Opened {
  readonly runtime: Runtime;
  readonly runner: PassRunner;
}

const open: Opened[] = [];
afterEach(() => {
  for (const { runtime } of open.splice(0)) runtime.destroy();
});

export async function openModel(
  source: Parameters<typeof installModel>[0],
  getPercent: (smallest: number) => number,
): Promise<Opened> {
  const store = createMemoryStore();
  const { manifest } = await installModel(source, store);
  const { moe } = manifest.config;
  const expertBudget = { percent: getPercent((getLeastSlots(moe) / moe.experts) * 100) };
  const reader = createVerifiedReader(store, manifest);
  const runtime = await createRuntime(manifest, reader, { gpu: sharedGpu }, { expertBudget }, () => {});
  const opened = { runtime, runner: new PassRunner(runtime) };
  open.push(opened);
  return opened;
}

/** Logits of every token: [tokens][vocab]. */
async function feed(
  { runtime, runner }: Opened,
  tokenIds: readonly number[],
  { position = 0, rows, plan }: { position?: number; rows: number; plan: PassPlan },
): Promise<Float32Array[]> {
  const { vocabSize } = runtime.manifest.config;
  const { state } = runtime.plan;
  const step = Math.min(rows, state.rows, state.logitRows);
  const all: Float32Array[] = [];
  for (let at = 0; at < tokenIds.length; at += step) {
    const chunk = tokenIds.slice(at, at + step);
    const request = {
      position: position + at,
      logitRows: chunk.length,
      sampling: null,
      readLogits: true,
      isChunk: true,
    };
    const { logits } = await runner.run({ ...request, tokenIds: chunk }, plan);
    for (let row = 0; row < chunk.length; row++) {
      all.push((logits as Float32Array).slice(row * vocabSize, (row + 1) * vocabSize));
    }
  }
  return all;
}

/** Logits of all prompts: the last one's continuation token by token. */
export async function answer(opened: Opened, golden: Answers, plan: PassPlan): Promise<Float32Array[][]> {
  const answers: Float32Array[][] = [];
  for (const [i, { tokenIds }] of golden.prompts.entries()) {
    const prefilled = i === golden.prompts.length - 1 ? tokenIds.length - golden.decodeSteps : tokenIds.length;
    const prompt = await feed(opened, tokenIds.slice(0, prefilled), { rows: 64, plan });
    const decoded = await feed(opened, tokenIds.slice(prefilled), { position: prefilled, rows: 1, plan });
    answers.push([...prompt, ...decoded]);
  }
  return answers;
}

/** Largest difference of any golden logit, as a share of the largest. */
export function getWorst(golden: Pick<Answers, 'prompts'>, answers: readonly (readonly Float32Array[])[]): number {
  return getLargest(golden.prompts, (expected, i, position) =>
    getRelativeDifference(answers[i]?.[position] as Float32Array, expected),
  );
}

/** The same of log-probabilities: llama.cpp's logits are known up to a constant. */
export function getWorstLogprob(expected: Answers['prompts'], answers: readonly (readonly Float32Array[])[]): number {
  return getLargest(expected, (logprobs, i, position) => {
    const logits = answers[i]?.[position] as Float32Array;
    const largest = logits.reduce((most, logit) => Math.max(most, Math.abs(logit)), 0);
    const highest = Math.max(...logits);
    const normaliser = highest + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0));
    return Math.max(...logprobs.map((value, id) => Math.abs(value - ((logits[id] as number) - normaliser)))) / largest;
  });
}

/** The largest of what `compare` gives for the kept rows; endless where one is no number. */
function getLargest(
  prompts: Answers['prompts'],
  compare: (expected: Float32Array, prompt: number, position: number) => number,
): number {
  const differences = prompts.flatMap(({ positions, logits }, i) =>
    positions.map((position, row) => compare(logits[row] as Float32Array, i, position)),
  );
  return differences.some(Number.isNaN) ? Number.POSITIVE_INFINITY : Math.max(...differences);
}

/** Checks what holds whatever the oracle. @returns the logits of all prompts, every expert resident: [prompt][position]. */
export async function checkArchitecture(
  source: Parameters<typeof installModel>[0],
  golden: Answers,
): Promise<Float32Array[][]> {
  const whole = await openModel(source, () => 100);
  checkDispatches(whole.runtime);
  const resident = await answer(whole, golden, WHOLE);
  expect(whole.runtime.pager.counters.faultingLayers).toBe(0);

  const { moe } = whole.runtime.manifest.config;
  const paged = await openModel(source, (smallest) => smallest);
  expect(paged.runtime.plan.slotsPerLayer).toBe(getLeastSlots(moe));
  expect(await answer(paged, golden, AHEAD)).toEqual(resident);
  expect(getLeastSlots(moe)).toBeLessThan(moe.experts);
  expect(paged.runtime.pager.counters.faultingLayers).toBeGreaterThan(0);
  expect(paged.runtime.memory.usedBytes).toBe(paged.runtime.plan.totalBytes);

  const tokenIds = golden.prompts.at(-1)?.tokenIds.slice(0, COMPARED_TOKENS) ?? [];
  const single = await feed(whole, tokenIds, { rows: 1, plan: WHOLE });
  for (const [position, logits] of single.entries()) {
    const prefilled = resident.at(-1)?.[position] as Float32Array;
    expect(getRelativeDifference(logits, prefilled), `position ${position}`).toBeLessThanOrEqual(PREFILL_TOLERANCE);
  }
  return resident;
}
