/**
 * Guessing touches speed alone: whatever guesses, and however often it is wrong, ids and log-probabilities are bit for bit
 * those of decoding one token after the other, with faults, waves and every other paging option between.
 */
import { describe, expect, it } from 'vitest';
import type { DraftKind, Engine, GenerateRequest } from '../../src/engine/engine';
import { createLocalEngine } from '../../src/engine/local-engine';
import type { StoreKind } from '../../src/store/model-store';
import { goldenModels } from '../golden';
import { architectureNames, loadArchitecture } from '../golden/architectures';
import { loadResearch, researchNames } from '../golden/research';
import { openAnyStore } from '../opfs/remote-store';
import { createRandom, type Random } from '../unit/random';
import { answer } from './drafted-answer';
import { loadModel, openForTest } from './engine-session';
import { sharedGpu } from './shared-gpu';

const isFull = Boolean(import.meta.env.WEBMOE_FULL);

const KINDS: readonly DraftKind[] = ['self', 'ngram', 'auto'];
const PREDICTORS = ['none', 'recency', 'token', 'affinity', 'lookahead', 'ensemble'] as const;

const pageable = goldenModels.filter(({ config: { moe } }) => moe.experts > moe.expertsPerToken);
const SAMPLE = ['e60k8-q4_0', 'e16k4-tied-f32'];
const models = pageable.map(({ name }) => name).filter((name) => isFull || SAMPLE.includes(name));
/** 6 cases in the sample, at least 200 in full; each is run with every kind of guess. */
const casesPerModel = isFull ? Math.ceil(200 / models.length) : 3;

function pickRequest(random: Random, vocabSize: number, layers: number, most: number): GenerateRequest {
  // A few tokens over and over: something for n-grams to find.
  const few = Array.from({ length: random.integer(1, 4) }, () => random.integer(0, vocabSize - 1));
  const runAhead = random.pick([true, false, undefined]);
  const penalty = random.pick([0, 0, 1.5]);
  return {
    tokenIds: Array.from({ length: random.pick([1, 5, 12, 70]) }, () => random.pick(few)),
    maxTokens: random.integer(8, most),
    ignoreEos: true,
    sampling: {
      temperature: random.pick([0, 0.8]),
      seed: random.integer(0, 2 ** 32 - 1),
      topK: random.pick([0, 20]),
      frequencyPenalty: penalty,
      ...(penalty > 0 && { logitBias: { [few[0] as number]: 3 } }),
    },
    paging: {
      predictor: random.pick(PREDICTORS),
      segmentLayers: random.pick([1, 2, layers]),
      ...(runAhead !== undefined && { runAhead }),
      readBackEveryLayer: random.pick([true, false, false]),
    },
  };
}

/** Compares every kind of guess with none at all; returns what the guesses met. */
async function expectSame(whole: Engine, paged: Engine, request: GenerateRequest, tokens: number) {
  const [right] = await answer(whole, { ...request, draft: { kind: 'off' } });
  const seen = { faults: 0, rejected: 0, accepted: 0, trace: right.trace };
  for (const kind of KINDS) {
    const note = JSON.stringify({ kind, tokens, ...request });
    const [got, { draft, generatedTokens, faultingLayers }] = await answer(paged, {
      ...request,
      draft: { kind, tokens },
    });
    expect(got, note).toEqual(right);
    expect(draft.passes + draft.accepted, note).toBe(generatedTokens - 1);
    expect(
      Object.values(draft.sources).reduce((a, b) => a + b),
      note,
    ).toBe(draft.passes);
    expect(draft.accepted, note).toBeLessThanOrEqual(draft.proposed);
    if (kind === 'self') expect(draft.proposed, note).toBeGreaterThan(0);
    if (draft.proposed > 0) seen.faults += faultingLayers;
    seen.rejected += draft.proposed - draft.accepted;
    seen.accepted += draft.accepted;
  }
  return seen;
}

describe.each(models.map((name, index) => [name, index] as const))('%s', (name, index) => {
  it('answers the same with every kind of guess, under random budgets, stores and paging options', async () => {
    const random = createRandom(4000 + index);
    const { config } = goldenModels.find((model) => model.name === name) as (typeof goldenModels)[number];
    const { experts, expertsPerToken } = config.moe;
    const { engine: whole } = await openForTest(name, { contextLength: 128 });
    const total = { faults: 0, rejected: 0, accepted: 0 };
    for (let i = 0; i < casesPerModel; i++) {
      const store: StoreKind = random.pick(['memory', 'indexeddb', 'opfs']);
      const percent = random.pick([(100 * expertsPerToken) / experts, 25, 50, 75, 100]);
      const hostCacheBytes = random.pick([0, 100_000, undefined]);
      const paged = createLocalEngine({ gpu: sharedGpu, openStore: openAnyStore });
      const loaded = await loadModel(paged, name, {
        store,
        contextLength: 128,
        expertBudget: { percent: Math.max(percent, (100 * expertsPerToken) / experts) },
        ...(hostCacheBytes !== undefined && { hostCacheBytes }),
      });
      try {
        const request = pickRequest(random, config.vocabSize, config.layers, isFull ? 20 : 12);
        const seen = await expectSame(whole, paged, request, random.integer(1, 8));
        total.faults += seen.faults;
        total.rejected += seen.rejected;
        total.accepted += seen.accepted;
      } finally {
        await paged.unload();
        await paged.removeModel(store, loaded.modelId);
      }
    }
    // Guesses that met no fault, or were never wrong, prove nothing.
    expect(total.faults).toBeGreaterThan(0);
    expect(total.rejected).toBeGreaterThan(0);
    expect(total.accepted).toBeGreaterThan(0);
  });
});

/** In the sample: a window that slides, biases and sinks; dense layers, a shared expert and a sigmoid's groups; neither. */
const architectures = isFull ? architectureNames : ['gpt_oss', 'glm4moe', 'mixtral'];
/** The one with most experts; its window, where it has one, is as long as the prompts are cut to: it moves under the guesses. */
const SAMPLED_SHAPE = 1;
const WINDOW = 40;

describe.each(architectures)('%s', (architecture) => {
  it('answers the same with every kind of guess at the smallest budget', async () => {
    const all = await loadArchitecture(architecture);
    for (const [index, { name, gguf, prompts }] of (isFull ? all : all.slice(SAMPLED_SHAPE).slice(0, 1)).entries()) {
      const random = createRandom(4100 + index);
      const { engine: whole } = await openForTest(gguf);
      const { engine: paged, loaded } = await openForTest(gguf);
      const { experts, expertsPerToken } = loaded;
      await paged.setExpertBudget({ percent: (100 * expertsPerToken) / experts });
      const tokenIds = prompts.at(-1)?.tokenIds ?? [];
      const request = {
        ...pickRequest(random, 40, loaded.layers, 10),
        tokenIds: tokenIds.slice(0, WINDOW),
        maxTokens: 10,
      };
      const seen = await expectSame(whole, paged, request, 4);
      expect(seen.rejected, name).toBeGreaterThan(0);
      if (experts > expertsPerToken) expect(seen.faults, name).toBeGreaterThan(0);
    }
  });
});

/** In the sample: one whose tokens may use every expert, and use fewer, and one whose layers share pages. */
const research = isFull ? researchNames : ['blockffn', 'rexmoe'];
const variable = ['adamoe', 'blockffn', 'dynamic_moe'];

describe.each(research)('%s', (architecture) => {
  it('answers the same with every kind of guess, and its trace has the experts that a token uses', async () => {
    const golden = (await loadResearch(architecture))[0];
    const { folder = new Map(), prompts = [] } = golden ?? {};
    const { engine: whole } = await openForTest(folder);
    const { engine: paged, loaded } = await openForTest(folder);
    const { experts, expertsPerToken } = loaded;
    await paged.setExpertBudget({ percent: (100 * Math.min(expertsPerToken, experts / 2)) / experts });
    const tokenIds = prompts.at(-1)?.tokenIds.slice(0, WINDOW) ?? [];
    const request = { ...pickRequest(createRandom(4200), 40, loaded.layers, 10), tokenIds, maxTokens: 10 };
    const seen = await expectSame(whole, paged, request, 4);
    expect(seen.rejected).toBeGreaterThan(0);
    expect(seen.faults).toBeGreaterThan(0);
    const routes = seen.trace.flatMap((entry) => entry.routes);
    expect(new Set(routes.map((ids) => ids.length)).size > 1).toBe(variable.includes(architecture));
    for (const ids of routes) {
      expect(ids.length).toBeLessThanOrEqual(expertsPerToken);
      expect(new Set(ids).size).toBe(ids.length);
      for (const id of ids) expect(id).toBeLessThan(experts);
    }
  });
});

it('the default model answers the same with every kind of guess at half and at a quarter of its experts', async () => {
  const pointer = await (await fetch('/models/default.json')).json();
  const bytes = new Uint8Array(await (await fetch(`/${pointer.url}`)).arrayBuffer());
  const { engine: whole } = await openForTest(bytes);
  const total = { faults: 0, rejected: 0, accepted: 0 };
  const cases = isFull ? [50, 25, 50, 25] : [25];
  for (const [i, percent] of cases.entries()) {
    const { engine: paged } = await openForTest(bytes, { expertBudget: { percent } });
    const seen = await expectSame(
      whole,
      paged,
      {
        messages: [{ role: 'user', content: 'Tell me a story about a girl and a lantern.' }],
        maxTokens: isFull ? 40 : 12,
        ignoreEos: true,
        sampling: { temperature: i % 2 === 0 ? 0 : 0.8, seed: 5 },
      },
      4,
    );
    total.faults += seen.faults;
    total.rejected += seen.rejected;
    total.accepted += seen.accepted;
  }
  expect(total.faults).toBeGreaterThan(0);
  expect(total.rejected).toBeGreaterThan(0);
  expect(total.accepted).toBeGreaterThan(0);
});
