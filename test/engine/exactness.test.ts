/**
 * What is on the GPU changes how fast an answer comes, never the answer: any budget and store gives the same tokens and the
 * same bits, and at the smallest budget they are also those of transformers.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { GenerateRequest, LoadOptions, SamplingOptions } from '../../src/engine/engine';
import { goldenModels, loadGolden } from '../golden';
import { generate, openSession, type Session, toBits } from './engine-session';
import { computeLogits, type GoldenRuntime, getRelativeDifference, openGolden } from './golden-runtime';
import { watchGpu } from './watched-gpu';

const isFull = Boolean(import.meta.env.WEBMOE_FULL);

/** Those with a budget below 100 %: more experts than a token needs. */
const pageable = goldenModels.filter(({ config: { moe } }) => moe.experts > moe.expertsPerToken);
const SAMPLE = ['e5k1-gqa-q4_0', 'e60k8-q4_0', 'e16k4-f16'];
const models = pageable.map(({ name }) => name).filter((name) => isFull || SAMPLE.includes(name));

const SAMPLINGS: readonly SamplingOptions[] = [
  { temperature: 0 },
  { temperature: 0.8, topK: 20, topP: 0.9, minP: 0.02, seed: 1 },
  { temperature: 0.8, topP: 0.7, seed: 2 },
  { temperature: 0.8, topK: 5, seed: 4_000_000_000 },
];

let session: Session | undefined;
let runtime: GoldenRuntime | undefined;
afterEach(async () => {
  if (session) {
    const { engine, loaded } = session;
    await engine.unload();
    for (const kind of ['indexeddb', 'opfs'] as const) await engine.removeModel(kind, loaded.modelId);
    session = undefined;
  }
  runtime?.runtime.destroy();
  runtime = undefined;
});

/** Requests on a model: the golden prompt greedily, then prompts of several chunks with every kind of sampling. */
async function listRequests(name: string): Promise<GenerateRequest[]> {
  const { prompts, decode } = await loadGolden(name);
  const long = prompts.flatMap(({ tokenIds }) => tokenIds);
  const common = { topLogprobs: 5, ignoreEos: true } as const;
  return [
    { ...common, tokenIds: prompts[decode.prompt]?.tokenIds ?? [], maxTokens: decode.tokenIds.length },
    ...SAMPLINGS.slice(0, isFull ? undefined : 2).map((sampling, i) => ({
      ...common,
      // 73 to 103 tokens
      tokenIds: [...long, ...long.slice(0, i * 10)],
      sampling,
      maxTokens: isFull ? 16 : 6,
    })),
  ];
}

/** Ids and bits of the answers, and how many layers faulted in decode. */
async function answer(name: string, options: LoadOptions) {
  session = await openSession(name, options);
  const answers: { tokenIds: readonly number[]; bits: string[] }[] = [];
  let faultingLayers = 0;
  for (const request of await listRequests(name)) {
    const { result } = await generate(session.engine, request);
    expect(result.tokenIds).toHaveLength(request.maxTokens as number);
    answers.push({ tokenIds: result.tokenIds, bits: toBits(result.logprobs) });
    faultingLayers += result.stats.faultingLayers;
  }
  const { engine, loaded } = session;
  await engine.unload();
  await engine.removeModel(options.store ?? 'memory', loaded.modelId);
  return { answers, faultingLayers, slotsPerLayer: loaded.slotsPerLayer };
}

describe.each(models.map((name, index) => [name, index] as const))('%s', (name, index) => {
  it('answers the same, bit for bit, at every budget from every store', async () => {
    const golden = await loadGolden(name);
    const { experts, expertsPerToken } = golden.config.moe;
    const smallest = (expertsPerToken / experts) * 100;
    const whole = await answer(name, { store: 'memory', expertBudget: { percent: 100 } });
    expect(whole.faultingLayers).toBe(0);
    expect(whole.slotsPerLayer).toBe(experts);
    expect(whole.answers[0]?.tokenIds).toEqual(golden.decode.tokenIds);

    const cases = (['memory', 'indexeddb', 'opfs'] as const).flatMap((store) =>
      [smallest, 50, 100].map((percent) => ({ store, percent })),
    );
    // The two cases that differ most from the first one are always run, the models taking turns with the browser's stores.
    const kept = index % 2 === 0 ? 'opfs' : 'indexeddb';
    const chosen = isFull
      ? cases.slice(0, 2).concat(cases.slice(3))
      : cases.filter(({ store, percent }) =>
          store === 'memory' ? percent === 50 : store === kept && percent === smallest,
        );
    for (const { store, percent } of chosen) {
      const paged = await answer(name, { store, expertBudget: { percent } });
      expect(paged.answers, `${percent} % from ${store}`).toEqual(whole.answers);
      if (percent === smallest) expect(paged.slotsPerLayer).toBe(expertsPerToken);
      if (percent < 100) expect(paged.faultingLayers, `${percent} % from ${store}`).toBeGreaterThan(0);
      else expect(paged.faultingLayers).toBe(0);
    }
  });
});

it('a seed gives the same tokens again, another one others', async () => {
  session = await openSession('e5k1-gqa-q4_0', { expertBudget: { percent: 40 } });
  const { engine } = session;
  const sample = async (seed: number) =>
    (await generate(engine, { tokenIds: [3, 4], maxTokens: 12, ignoreEos: true, sampling: { temperature: 1.5, seed } }))
      .result.tokenIds;
  const first = await sample(7);
  expect(await sample(7)).toEqual(first);
  expect(await sample(8)).not.toEqual(first);
});

it('a prompt gives the same bits whatever was asked before', async () => {
  const { prompts } = await loadGolden('e5k1-gqa-f16');
  session = await openSession('e5k1-gqa-f16', { expertBudget: { percent: 20 } });
  const { engine } = session;
  const request = { tokenIds: prompts[2]?.tokenIds ?? [], maxTokens: 4, topLogprobs: 3, ignoreEos: true };
  const first = await generate(engine, request);
  await generate(engine, { ...request, tokenIds: [...request.tokenIds].reverse(), maxTokens: 20 });
  const again = await generate(engine, request);
  expect(again.result.tokenIds).toEqual(first.result.tokenIds);
  expect(toBits(again.result.logprobs)).toEqual(toBits(first.result.logprobs));
});

describe("with WebGPU's default limits and no features", () => {
  it.each([
    ['e60k8-f32', 'at the smallest budget', true],
    ['e60k8-f32', 'with everything resident', false],
  ])('%s gives the logits of transformers %s', async (name, _, smallest) => {
    const golden = await loadGolden(name);
    const { experts, expertsPerToken } = golden.config.moe;
    const percent = smallest ? (expertsPerToken / experts) * 100 : 100;
    runtime = await openGolden(name, { expertBudget: { percent }, defaultLimitsOnly: true });
    expect(runtime.runtime.device.limits.maxStorageBuffersPerShaderStage).toBe(8);
    expect(runtime.runtime.device.limits.maxStorageBufferBindingSize).toBe(128 << 20);
    for (const prompt of golden.prompts) {
      const logits = await computeLogits(runtime, prompt.tokenIds);
      for (const [i, position] of prompt.positions.entries()) {
        const difference = getRelativeDifference(logits[position] as Float32Array, prompt.logits[i] as Float32Array);
        expect(difference, `position ${position} of ${prompt.tokenIds.length}`).toBeLessThanOrEqual(1e-3);
      }
    }
    expect(runtime.runtime.pager.counters.faultingLayers > 0).toBe(smallest);
  });

  it('asks for none, and answers the same bit for bit at the smallest budget and at 100 %', async () => {
    const name = 'e5k1-gqa-q8_0';
    const golden = await loadGolden(name);
    const answers: unknown[] = [];
    for (const percent of [20, 100]) {
      const watched = watchGpu();
      session = await openSession(name, { expertBudget: { percent }, defaultLimitsOnly: true }, { gpu: watched.gpu });
      const [descriptor] = watched.requests;
      expect(descriptor?.requiredLimits ?? {}).toEqual({});
      expect([...(descriptor?.requiredFeatures ?? [])]).toEqual([]);
      const { engine } = session;
      const results = [];
      for (const request of (await listRequests(name)).slice(0, 2)) {
        const { result } = await generate(engine, request);
        results.push({ tokenIds: result.tokenIds, bits: toBits(result.logprobs) });
      }
      expect(results[0]?.tokenIds).toEqual(golden.decode.tokenIds);
      answers.push(results);
      await engine.unload();
    }
    expect(answers[0]).toEqual(answers[1]);
  });
});
