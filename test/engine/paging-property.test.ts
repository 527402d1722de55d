/**
 * How pages are brought in touches speed alone: random requests under random budgets, stores and paging options give the ids
 * and the bits of a run where everything is resident, and the counters say what was seen at the WebGPU interface.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { GenerateRequest, PagingOptions } from '../../src/engine/engine';
import type { OpenPathModel } from '../../src/engine/forecast-shelf';
import { createLocalEngine } from '../../src/engine/local-engine';
import { predictorNames } from '../../src/routing/predictors';
import type { StoreKind } from '../../src/store/model-store';
import { openPathModel } from '../../src/worker/path-model';
import { goldenModels } from '../golden';
import { openAnyStore } from '../opfs/remote-store';
import { createRandom, type Random } from '../unit/random';
import { loadModel, toBits } from './engine-session';
import { type WatchedGpu, watchGpu } from './watched-gpu';

const isFull = Boolean(import.meta.env.WEBMOE_FULL);

const PROMPT_LENGTHS = [1, 3, 7, 20, 70];
const STORES: readonly StoreKind[] = ['opfs', 'indexeddb', 'memory'];
const BUDGETS = ['floor', 25, 50, 75, 100] as const;

const pageable = goldenModels.filter(({ config: { moe } }) => moe.experts > moe.expertsPerToken);
const SAMPLE = ['e60k8-q4_0', 'e16k4-q4_0'];
const models = pageable.map(({ name }) => name).filter((name) => isFull || SAMPLE.includes(name));
/** 12 cases in the sample, at least 200 in full. */
const loadsPerModel = isFull ? 5 : 2;
const casesPerLoad = isFull ? Math.ceil(200 / (models.length * loadsPerModel)) : 3;

const pointer = await (await fetch('/models/default.json')).json();

interface Load {
  readonly budget: (typeof BUDGETS)[number];
  readonly store: StoreKind;
  readonly hostCacheBytes: number | undefined;
}

interface Answer {
  readonly tokenIds: readonly number[];
  readonly bits: readonly string[];
  /** Distinct experts that decode needed, of the MoE layer that needed most. */
  readonly mostExperts: number;
}

const cleanUps: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0)) await cleanUp();
});

/** Any answers at all, too late ones and none among them: a learned predictor may be wrong in every way but one. */
const guessAtRandom: OpenPathModel = async (_network, { layers, experts }) => {
  const random = createRandom(5);
  const answers = new Map<number, Float32Array>();
  return {
    push(position, tokenIds) {
      const answer = Float32Array.from({ length: layers * experts }, () => random.number());
      const chance = random.number();
      const at = position + tokenIds.length - 1;
      if (chance < 0.5) answers.set(at, answer);
      else if (chance < 0.8) setTimeout(() => answers.set(at, answer), 1);
    },
    get: (position) => answers.get(position) ?? null,
    waitFor: async () => {},
    close: () => answers.clear(),
  };
};

/** A model that stays loaded until the test ends, and what is asked of it. */
async function open(model: string | Uint8Array<ArrayBuffer>, { budget, store, hostCacheBytes }: Load) {
  const watched = watchGpu();
  const isTiny = typeof model === 'string';
  const engine = createLocalEngine({
    gpu: watched.gpu,
    openPathModel: isTiny ? guessAtRandom : openPathModel,
    openStore: openAnyStore,
  });
  const learnedUrl = new URL(`/${pointer.forecast.learnedUrl}`, location.href).href;
  const options = {
    store,
    forecast: { learnedUrl },
    contextLength: 128,
    ...(hostCacheBytes !== undefined && { hostCacheBytes }),
  };
  const moe = goldenModels.find(({ name }) => name === model)?.config.moe;
  const percent = budget === 'floor' ? (100 * (moe?.expertsPerToken ?? 0)) / (moe?.experts ?? 1) : budget;
  const loaded = await loadModel(engine, model, { ...options, expertBudget: { percent } });
  if (budget === 'floor') expect(loaded.slotsPerLayer).toBe(loaded.expertsPerToken);
  cleanUps.push(async () => {
    await engine.unload();
    await engine.removeModel(store, loaded.modelId);
    expect(watched.liveBytes).toBe(0);
  });
  expect(watched.liveBytes).toBe(loaded.plannedGpuBytes);
  expect(watched.peakBytes).toBe(loaded.plannedGpuBytes);
  return { loaded, watched, ask: (request: GenerateRequest) => run(engine, watched, request) };
}

/** A generation with what its decode uploaded, as the GPU saw it. */
async function run(engine: ReturnType<typeof createLocalEngine>, watched: WatchedGpu, request: GenerateRequest) {
  const perLayer = new Map<number, Set<number>>();
  let slotBytes = 0;
  for await (const event of engine.generate({ ...request, topLogprobs: 3, ignoreEos: true, trace: true })) {
    if (event.type === 'prefill') slotBytes = watched.slotBytes;
    if (event.type === 'routes') {
      for (const { phase, routes } of event.entries) {
        if (phase === 'prefill') continue;
        for (const [layer, experts] of routes.entries())
          perLayer.set(layer, new Set([...(perLayer.get(layer) ?? []), ...experts]));
      }
    }
    if (event.type !== 'done') continue;
    const { tokenIds, logprobs, stats } = event.result;
    const mostExperts = Math.max(0, ...[...perLayer.values()].map((experts) => experts.size));
    const answer: Answer = { tokenIds, bits: toBits(logprobs), mostExperts };
    return { answer, stats, uploadedBytes: watched.slotBytes - slotBytes };
  }
  throw new Error('the stream ended without a done event');
}

function pickPaging(random: Random, layers: number): PagingOptions {
  const runAhead = random.pick([true, false, undefined]);
  const readBackEveryLayer = random.pick([true, false, false]);
  return {
    predictor: random.pick(predictorNames),
    segmentLayers: random.pick([1, 2, layers]),
    ...(runAhead !== undefined && { runAhead }),
    readBackEveryLayer,
  };
}

function pickRequest(random: Random, vocabSize: number, maxTokens: number): GenerateRequest {
  const length = random.pick(PROMPT_LENGTHS);
  return {
    tokenIds: Array.from({ length }, () => random.integer(0, vocabSize - 1)),
    maxTokens,
    // The counters are those of one pass per token; drafting.test.ts has guesses.
    draft: { kind: 'off' },
    sampling: { temperature: random.pick([0, 0.8]), seed: random.integer(0, 2 ** 32 - 1) },
  };
}

/** @returns whether the request had to upload pages at this budget. */
async function expectSame(
  resident: Awaited<ReturnType<typeof open>>,
  paged: Awaited<ReturnType<typeof open>>,
  request: GenerateRequest,
  paging: PagingOptions,
  budget: Load['budget'],
): Promise<boolean> {
  const { experts, expertsPerToken, moeLayers, slotsPerLayer } = paged.loaded;
  const note = JSON.stringify({ slotsPerLayer, paging, prompt: request.tokenIds?.length, sampling: request.sampling });
  const right = await resident.ask(request);
  expect(right.stats.faultingLayers).toBe(0);
  expect(right.uploadedBytes).toBe(0);
  const { answer, stats, uploadedBytes } = await paged.ask({ ...request, paging });
  expect(answer, note).toEqual(right.answer);

  const { demand, useful, wasted } = stats.uploadBytes;
  expect(Math.min(demand, useful, wasted), note).toBeGreaterThanOrEqual(0);
  expect(demand + useful + wasted, note).toBe(uploadedBytes);
  expect(demand > 0, note).toBe(stats.faultingLayers > 0);
  if (paging.predictor === 'none' && paging.runAhead !== true) expect(useful + wasted, note).toBe(0);
  const needed = stats.byLayer.reduce((sum, layer) => sum + layer.needed, 0);
  const present = stats.byLayer.reduce((sum, layer) => sum + layer.present, 0);
  expect(needed, note).toBe((answer.tokenIds.length - 1) * moeLayers * expertsPerToken);
  expect(stats.hitRate, note).toBe(present / needed);
  expect(
    stats.byLayer.reduce((sum, layer) => sum + layer.faults, 0),
    note,
  ).toBe(stats.faultingLayers);
  expect(stats.peakGpuBytes, note).toBe(stats.plannedGpuBytes);
  expect(paged.watched.peakBytes, note).toBe(stats.plannedGpuBytes);

  if (slotsPerLayer === experts) expect(uploadedBytes, note).toBe(0);
  // More experts than slots: at least one page came in, by demand or ahead of it.
  const mustUpload = answer.mostExperts > slotsPerLayer;
  if (mustUpload) expect(demand + useful, note).toBeGreaterThan(0);
  if (budget === 'floor' || (mustUpload && useful === 0)) expect(stats.faultingLayers, note).toBeGreaterThan(0);
  return mustUpload;
}

/** Every model sees the floor, and every load another store and RAM budget than the one before. */
function planLoads(random: Random, index: number): Load[] {
  const others = random.sample(BUDGETS.length - 1, Math.min(loadsPerModel, BUDGETS.length) - 1);
  return ['floor' as const, ...others.map((i) => BUDGETS[i + 1] as Load['budget'])].map((budget, i) => ({
    budget,
    store: STORES[(index + i) % STORES.length] as StoreKind,
    hostCacheBytes: random.pick([0, 100_000, undefined]),
  }));
}

describe.each(models.map((name, index) => [name, index] as const))('%s', (name, index) => {
  it('answers the same, bit for bit, under random budgets, stores and paging options', async () => {
    const random = createRandom(1000 + index);
    const { config } = goldenModels.find((model) => model.name === name) as (typeof goldenModels)[number];
    const resident = await open(name, { budget: 100, store: 'memory', hostCacheBytes: undefined });
    let uploads = 0;
    for (const load of planLoads(random, index)) {
      const paged = await open(name, load);
      for (let i = 0; i < casesPerLoad; i++) {
        const request = pickRequest(random, config.vocabSize, random.integer(6, 14));
        const mustUpload = await expectSame(resident, paged, request, pickPaging(random, config.layers), load.budget);
        if (mustUpload) uploads++;
      }
      await cleanUps.pop()?.();
    }
    expect(uploads).toBeGreaterThanOrEqual(casesPerLoad);
  });
});

it('the default model answers the same, bit for bit, at a quarter of its experts', async () => {
  const bytes = new Uint8Array(await (await fetch(`/${pointer.url}`)).arrayBuffer());
  const random = createRandom(77);
  const resident = await open(bytes, { budget: 100, store: 'memory', hostCacheBytes: undefined });
  const paged = await open(bytes, { budget: 25, store: 'indexeddb', hostCacheBytes: undefined });
  const cases: PagingOptions[] = [{ predictor: 'ensemble+learned' }, { predictor: 'ensemble', runAhead: true }, {}];
  for (const paging of isFull ? [...cases, ...predictorNames.map((predictor) => ({ predictor }))] : cases) {
    const request = pickRequest(random, 1000, 10);
    await expectSame(resident, paged, request, paging, 25);
  }
});
