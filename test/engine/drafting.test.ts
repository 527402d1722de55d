/**
 * Guessing touches speed alone: whatever guesses, and however often it is wrong, ids and log-probabilities are bit for bit
 * those of decoding one token after the other, with faults, waves and every other paging option between.
 */
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { DraftKind, Engine, GenerateRequest, GenerateResult, TraceEntry } from '../../src/engine/engine';
import { createLocalEngine } from '../../src/engine/local-engine';
import { EngineError } from '../../src/errors';
import { createMemoryStore } from '../../src/store/memory-store';
import type { ModelStore, StoreKind } from '../../src/store/model-store';
import { goldenModels } from '../golden';
import { architectureNames, loadArchitecture } from '../golden/architectures';
import { loadResearch, researchNames } from '../golden/research';
import { openAnyStore } from '../opfs/remote-store';
import { createRandom, type Random } from '../unit/random';
import { generate, loadModel, openSession, toBits } from './engine-session';
import { cutBytes, writeScriptedModel } from './scripted-model';
import { sharedGpu } from './shared-gpu';
import { watchFile } from './watched-file';

const isFull = Boolean(import.meta.env.WEBMOE_FULL);

const KINDS: readonly DraftKind[] = ['self', 'ngram', 'auto'];
const PREDICTORS = ['none', 'recency', 'token', 'affinity', 'lookahead', 'ensemble'] as const;
const NAME = 'e16k4-q4_0';
const SMALLEST = { expertBudget: { percent: 25 } } as const;

const pageable = goldenModels.filter(({ config: { moe } }) => moe.experts > moe.expertsPerToken);
const SAMPLE = ['e60k8-q4_0', 'e16k4-tied-f32'];
const models = pageable.map(({ name }) => name).filter((name) => isFull || SAMPLE.includes(name));
/** 6 cases in the sample, at least 200 in full; each is run with every kind of guess. */
const casesPerModel = isFull ? Math.ceil(200 / models.length) : 3;

const engines: Engine[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  for (const engine of engines.splice(0)) await engine.unload();
});

async function open(...args: Parameters<typeof openSession>): Promise<Engine> {
  const { engine } = await openSession(...args);
  engines.push(engine);
  return engine;
}

interface Answer {
  readonly tokenIds: readonly number[];
  readonly bits: readonly string[];
  readonly finishReason: string;
  readonly text: string;
  readonly trace: readonly TraceEntry[];
}

/** Everything that may not depend on guesses, and the statistics, which may. */
async function answer(engine: Engine, request: GenerateRequest): Promise<[Answer, GenerateResult['stats']]> {
  const trace: TraceEntry[] = [];
  for await (const event of engine.generate({ topLogprobs: 2, trace: true, ...request })) {
    if (event.type === 'routes') trace.push(...event.entries);
    if (event.type !== 'done') continue;
    const { tokenIds, logprobs, finishReason, text, stats } = event.result;
    return [{ tokenIds, bits: toBits(logprobs), finishReason, text, trace }, stats];
  }
  throw new Error('the stream ended without a done event');
}

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
    const whole = await open(name, { contextLength: 128 });
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
      const whole = await open(gguf);
      const { engine: paged, loaded } = await openSession(gguf);
      engines.push(paged);
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
    const whole = await open(folder);
    const { engine: paged, loaded } = await openSession(folder);
    engines.push(paged);
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
  const whole = await open(bytes);
  const total = { faults: 0, rejected: 0, accepted: 0 };
  const cases = isFull ? [50, 25, 50, 25] : [25];
  for (const [i, percent] of cases.entries()) {
    const paged = await open(bytes, { expertBudget: { percent } });
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

describe('a self-draft', () => {
  it('with every expert resident is the model itself: each guess holds, and a pass is one round trip', async () => {
    const engine = await open(NAME);
    for (const temperature of [0, 0.8]) {
      const sampling = { temperature, seed: 3 };
      const request = { tokenIds: [5, 9, 30], maxTokens: 16, ignoreEos: true, sampling };
      const [, { draft, roundTrips, submits, layersExecuted }] = await answer(engine, {
        ...request,
        draft: { kind: 'self', tokens: 4 },
      });
      expect(draft).toEqual({
        proposed: 12,
        accepted: 12,
        passes: 3,
        sources: { off: 0, self: 3, lookup: 0, table: 0, grammar: 0 },
      });
      expect({ roundTrips, submits, layersExecuted }).toEqual({ roundTrips: 3, submits: 3, layersExecuted: 9 });
    }
  });

  it('names pages that its pass will miss: fewer round trips than without', async () => {
    const engine = await open('e60k8-q4_0', { expertBudget: { percent: 50 } });
    const paging = { predictor: 'none', runAhead: false } as const;
    const request: GenerateRequest = { tokenIds: [42, 7, 19], maxTokens: 30, ignoreEos: true, paging };
    const [right, off] = await answer(engine, { ...request, draft: { kind: 'off' } });
    const [got, self] = await answer(engine, { ...request, draft: { kind: 'self', tokens: 3 } });
    expect(got).toEqual(right);
    expect(self.uploadBytes.useful).toBeGreaterThan(0);
    expect(self.roundTrips).toBeLessThan(off.roundTrips);
  });
});

describe('guesses from the text', () => {
  it('make several tokens a pass where a text repeats itself, and none that the model would not have made', async () => {
    // Token i is always followed by i + 1, the last by the first.
    const { gguf, vocabSize } = writeScriptedModel(cutBytes('one two three four ', [4]));
    const engine = await open(gguf);
    const tokenIds = Array.from({ length: vocabSize + 4 }, (_, i) => i % vocabSize);
    const request = { tokenIds, maxTokens: 30, ignoreEos: true };
    const [right, off] = await answer(engine, { ...request, draft: { kind: 'off' } });
    const [got, { draft }] = await answer(engine, { ...request, draft: { kind: 'ngram', tokens: 4 } });
    expect(got).toEqual(right);
    expect(off.draft.passes).toBe(29);
    expect(draft).toMatchObject({ passes: 6, accepted: 23, sources: { lookup: 6 } });
  });

  it('end where the text ends: at a stop text, an end token, the last token asked for, the context', async () => {
    const { gguf, vocabSize, endId } = writeScriptedModel(cutBytes('abcdefgh', [1]), 24);
    const engine = await open(gguf);
    const tokenIds = Array.from({ length: vocabSize + 4 }, (_, i) => i % vocabSize);
    for (const request of [
      { tokenIds, maxTokens: 10, ignoreEos: true, stop: ['gh'] },
      { tokenIds, maxTokens: 30 },
      { tokenIds, maxTokens: 7, ignoreEos: true },
      { tokenIds, maxTokens: 100, ignoreEos: true },
    ]) {
      const [right] = await answer(engine, { ...request, draft: { kind: 'off' } });
      for (const kind of ['ngram', 'self'] as const) {
        const [got, { draft }] = await answer(engine, { ...request, draft: { kind, tokens: 8 } });
        expect(got, kind).toEqual(right);
        expect(draft.accepted, kind).toBeGreaterThan(0);
      }
    }
    const [ended] = await answer(engine, { tokenIds, maxTokens: 30, draft: { kind: 'ngram', tokens: 8 } });
    expect(ended.tokenIds.at(-1)).toBe(endId);
    expect(ended.trace.map(({ token }) => token)).not.toContain(undefined);
    expect(ended.trace).toHaveLength(tokenIds.length + ended.tokenIds.length - 1);
  });
});

/** A store whose reads do as told, each with the number of reads since the last call of `setOnRead`. */
function createWatchedStore() {
  const store = createMemoryStore();
  let onRead: (reads: number) => void = () => {};
  let reads = 0;
  const watched: ModelStore = {
    ...store,
    async readRecord(modelId, key) {
      onRead(++reads);
      return store.readRecord(modelId, key);
    },
  };
  return {
    store: watched,
    setOnRead(next: (reads: number) => void) {
      onRead = next;
      reads = 0;
    },
  };
}

/** A model without a window, and one whose window the prompt fills. */
const interrupted = [
  [NAME, async () => ({ model: NAME, tokenIds: goldenModels.find(({ name }) => name === NAME)?.prompts[2]?.tokenIds })],
  [
    'gpt_oss',
    async () => {
      const golden = (await loadArchitecture('gpt_oss'))[SAMPLED_SHAPE];
      return { model: golden?.gguf, tokenIds: golden?.prompts.at(-1)?.tokenIds.slice(0, WINDOW) };
    },
  ],
] as const;

describe.each(interrupted)('a pass over guesses of %s', (_, load) => {
  it('that is aborted, or loses a page read, in the middle gives that error, and the same answer afterwards', async () => {
    const { model, tokenIds = [] } = await load();
    const { store, setOnRead } = createWatchedStore();
    // A page that the store has lost would be read from the file again.
    const file = watchFile();
    // Nothing is kept in RAM: every fault reads.
    const environment = { openStore: async () => store };
    const options = { expertBudget: { percent: 34 }, hostCacheBytes: 0 };
    const engine = await open(model as string | Uint8Array<ArrayBuffer>, options, environment);
    const request: GenerateRequest = { tokenIds, maxTokens: 8, ignoreEos: true, draft: { kind: 'self', tokens: 4 } };
    const right = (await generate(engine, { ...request, draft: { kind: 'off' } })).result.tokenIds;
    for (const [readsBefore, ending] of [
      [0, 'abort'],
      [2, 'abort'],
      [0, 'loss'],
      [2, 'loss'],
    ] as const) {
      const controller = new AbortController();
      let started = false;
      let ended = false;
      const run = async () => {
        for await (const { type } of engine.generate(request, controller.signal)) {
          if (type !== 'token' || started) continue;
          started = true;
          // From the first pass over guesses on.
          setOnRead((reads) => {
            if (reads <= readsBefore) return;
            ended = true;
            if (ending === 'abort') controller.abort('enough');
            else {
              file.isGone = true;
              throw new EngineError('STORAGE', 'reading the record failed: the disk is gone');
            }
          });
        }
      };
      const code = ending === 'abort' ? 'ABORTED' : 'STORAGE';
      await expect(run(), `${ending} after ${readsBefore} reads`).rejects.toMatchObject({ code });
      expect(ended).toBe(true);
      setOnRead(() => {});
      file.isGone = false;
      expect((await generate(engine, request)).result.tokenIds).toEqual(right);
    }
  });
});

describe('a pass over guesses', () => {
  const prompt = goldenModels.find(({ name }) => name === NAME)?.prompts[2]?.tokenIds ?? [];
  const request: GenerateRequest = {
    tokenIds: prompt,
    maxTokens: 12,
    ignoreEos: true,
    draft: { kind: 'self', tokens: 4 },
  };

  it('that is aborted between its tokens ends with ABORTED, and the engine answers the same afterwards', async () => {
    const engine = await open(NAME, SMALLEST);
    const right = (await generate(engine, { ...request, draft: { kind: 'off' } })).result.tokenIds;
    for (let stopAt = 1; stopAt < 4; stopAt++) {
      const controller = new AbortController();
      let tokens = 0;
      const run = async () => {
        for await (const { type } of engine.generate({ ...request, maxTokens: 30 }, controller.signal)) {
          if (type === 'token' && ++tokens === stopAt) controller.abort('enough');
        }
      };
      await expect(run()).rejects.toMatchObject({ code: 'ABORTED' });
      expect((await generate(engine, request)).result.tokenIds).toEqual(right);
    }
  });

  it('and a budget that changes between tokens go together', async () => {
    const engine = await open(NAME, SMALLEST);
    const right = (await generate(engine, { ...request, draft: { kind: 'off' } })).result.tokenIds;
    const got: number[] = [];
    for await (const event of engine.generate(request)) {
      if (event.type !== 'token') continue;
      got.push(event.tokenId);
      await engine.setExpertBudget({ percent: got.length % 2 === 0 ? 25 : 60 });
    }
    expect(got).toEqual(right);
  });

  it('is refused with a number of guesses that no pass can check', async () => {
    const engine = await open(NAME, { contextLength: 5 });
    for (const tokens of [0, 9, 1.5, Number.NaN]) {
      await expect(generate(engine, { tokenIds: [1], draft: { tokens } })).rejects.toMatchObject({
        code: 'BAD_ARGUMENT',
        message: expect.stringContaining('from 1 to 8'),
      });
    }
    await expect(generate(engine, { tokenIds: [1], draft: { tokens: 8 } })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('more than the 4'),
    });
  });
});
