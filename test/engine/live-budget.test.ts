/**
 * The expert budget of a loaded model may change at any time: it changes how much GPU memory is used, never a token. Memory
 * is counted at the WebGPU interface.
 */
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Engine, ExpertBudgetChange, GenerateRequest } from '../../src/engine/engine';
import { createLocalEngine } from '../../src/engine/local-engine';
import { EngineError } from '../../src/errors';
import { createMemoryStore } from '../../src/store/memory-store';
import type { ModelStore } from '../../src/store/model-store';
import { goldenModels } from '../golden';
import { createRandom } from '../unit/random';
import { generate, loadModel, openSession, toBits } from './engine-session';
import { sharedGpu } from './shared-gpu';
import { watchFile } from './watched-file';
import { type WatchedGpu, watchGpu } from './watched-gpu';

const isFull = Boolean(import.meta.env.WEBMOE_FULL);

/** 16 experts, 4 per token. */
const NAME = 'e16k4-q4_0';
const prompt = goldenModels.find(({ name }) => name === NAME)?.prompts[1]?.tokenIds ?? [];
const request: GenerateRequest = { tokenIds: prompt, maxTokens: 24, ignoreEos: true, topLogprobs: 2 };

let engine: Engine | undefined;
afterEach(async () => {
  vi.restoreAllMocks();
  await engine?.unload();
  engine = undefined;
});

async function open(
  percent: number,
  watched: WatchedGpu = watchGpu(),
  openStore?: () => Promise<ModelStore>,
  model: string | Uint8Array<ArrayBuffer> = NAME,
) {
  const session = await openSession(
    model,
    { expertBudget: { percent }, ...(openStore && { hostCacheBytes: 0 }) },
    { gpu: watched.gpu, ...(openStore && { openStore }) },
  );
  engine = session.engine;
  return session;
}

/** Runs a request and calls back at every token; changes that the callback asks for take effect before the next one. */
async function runWith(engine: Engine, asked: GenerateRequest, onToken: (count: number) => void | Promise<void>) {
  let count = 0;
  for await (const event of engine.generate(asked)) {
    if (event.type === 'token') await onToken(++count);
    if (event.type === 'done') return event.result;
  }
  throw new Error('the stream ended without a done event');
}

describe('a budget changed while tokens stream', () => {
  it('changes slots and memory and no token, and memory never passes the larger plan', async () => {
    const calm = (await generate((await open(100)).engine, request)).result;
    await engine?.unload();
    const watched = watchGpu();
    const { engine: live, loaded } = await open(50, watched);
    expect(watched.liveBytes).toBe(loaded.plannedGpuBytes);
    const changes = new Map<number, number>([
      [1, 25],
      [5, 100],
      [6, 75],
      [14, 25],
      [20, 50],
    ]);
    let planned = loaded.plannedGpuBytes;
    const done: Promise<void>[] = [];
    const change = async (percent: number): Promise<void> => {
      watched.peakBytes = watched.liveBytes;
      const { slotsPerLayer, plannedGpuBytes, warning } = await live.setExpertBudget({ percent });
      expect(slotsPerLayer).toBe((percent / 100) * 16);
      expect(warning === null).toBe(percent >= 50);
      expect(watched.liveBytes).toBe(plannedGpuBytes);
      expect(watched.peakBytes).toBeLessThanOrEqual(Math.max(planned, plannedGpuBytes));
      planned = plannedGpuBytes;
    };
    const result = await runWith(live, request, (count) => {
      const percent = changes.get(count);
      if (percent) done.push(change(percent));
    });
    await Promise.all(done);
    expect(done).toHaveLength(changes.size);
    expect(result.tokenIds).toEqual(calm.tokenIds);
    expect(toBits(result.logprobs)).toEqual(toBits(calm.logprobs));
    expect(result.stats).toMatchObject({ slotsPerLayer: 8, plannedGpuBytes: planned });
    expect(result.stats.faultingLayers).toBeGreaterThan(0);
  });

  it('may be waited for between two events', async () => {
    const { engine: live } = await open(25);
    const right = (await generate(live, request)).result.tokenIds;
    const slots: number[] = [];
    const result = await runWith(live, request, async (count) => {
      if (count % 8 === 0) slots.push((await live.setExpertBudget({ percent: count * 4 })).slotsPerLayer);
    });
    expect(slots).toEqual([6, 11, 16]);
    expect(result.tokenIds).toEqual(right);
  });

  it('may be waited for at the warning that a generation begins with', async () => {
    // Nothing that a predictor could have learnt.
    const options = { expertBudget: { percent: 50 }, forecast: { taughtUrl: 'data:,nothing' } };
    ({ engine } = await openSession(NAME, options, { gpu: sharedGpu }));
    const types: string[] = [];
    const slots: number[] = [];
    for await (const event of engine.generate({ ...request, maxTokens: 2 })) {
      types.push(event.type);
      if (types.length === 1) slots.push((await engine.setExpertBudget({ percent: 25 })).slotsPerLayer);
      if (event.type === 'done') slots.push(event.result.stats.slotsPerLayer);
    }
    expect(types).toEqual(['warning', 'prefill', 'token', 'token', 'done']);
    expect(slots).toEqual([4, 4]);
  });

  it('below the floor is refused with BUDGET_TOO_SMALL, and everything stays as it was', async () => {
    const watched = watchGpu();
    const { engine: live, loaded } = await open(50, watched);
    const right = (await generate(live, request)).result.tokenIds;
    const errors: unknown[] = [];
    const result = await runWith(live, request, (count) => {
      if (count > 2) return;
      const budget = count === 1 ? { percent: 18 } : { bytes: 10 };
      live.setExpertBudget(budget).catch((error) => errors.push(error));
    });
    for (const error of errors) {
      expect(error).toMatchObject({
        code: 'BUDGET_TOO_SMALL',
        message: expect.stringMatching(/smallest budget is \d+ bytes/),
      });
    }
    expect(errors).toHaveLength(2);
    await expect(live.setExpertBudget({ percent: 101 })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expect(result.tokenIds).toEqual(right);
    expect(result.stats.slotsPerLayer).toBe(8);
    expect(watched.liveBytes).toBe(loaded.plannedGpuBytes);
    expect(watched.peakBytes).toBe(loaded.plannedGpuBytes);
  });

  it('goes back to the last good size, with a warning, when the GPU has no room', async () => {
    const watched = watchGpu();
    const { engine: live, loaded } = await open(50, watched);
    const right = (await generate(live, request)).result.tokenIds;
    // Room for the first layers to grow, not for all.
    watched.capacityBytes = loaded.plannedGpuBytes + Math.round(loaded.plannedGpuBytes * 0.05);
    let change: ExpertBudgetChange | undefined;
    const result = await runWith(live, request, async (count) => {
      if (count === 6) change = await live.setExpertBudget({ percent: 100 });
    });
    expect(change).toMatchObject({
      slotsPerLayer: 8,
      plannedGpuBytes: loaded.plannedGpuBytes,
      warning: expect.stringMatching(/no room for 16 slots per layer; back to 8/),
    });
    expect(result.tokenIds).toEqual(right);
    expect(watched.liveBytes).toBe(loaded.plannedGpuBytes);
    expect(watched.peakBytes).toBeLessThanOrEqual(watched.capacityBytes);
    watched.capacityBytes = Number.POSITIVE_INFINITY;
    expect(await live.setExpertBudget({ percent: 100 })).toMatchObject({ slotsPerLayer: 16, warning: null });
    expect((await generate(live, request)).result.tokenIds).toEqual(right);
  });

  it('with pages that cannot be read leaves them absent, and the tokens right once they can', async () => {
    const store = createMemoryStore();
    // A page that the store has lost would be read from the file again.
    const file = watchFile();
    let broken = false;
    const openStore = async (): Promise<ModelStore> => ({
      ...store,
      async readRecord(modelId, key) {
        if (broken) throw new EngineError('STORAGE', `reading record "${key}" failed: the disk is gone`);
        return store.readRecord(modelId, key);
      },
    });
    const { engine: live } = await open(75, watchGpu(), openStore);
    const right = (await generate(live, request)).result.tokenIds;
    broken = file.isGone = true;
    expect(await live.setExpertBudget({ percent: 50 })).toMatchObject({ slotsPerLayer: 8 });
    await expect(generate(live, request)).rejects.toMatchObject({ code: 'STORAGE' });
    broken = file.isGone = false;
    expect((await generate(live, request)).result.tokenIds).toEqual(right);
  });
});

describe('a budget changed while nothing runs', () => {
  it('takes effect at once, the last of several wins, and a generation started meanwhile is right', async () => {
    const watched = watchGpu();
    const { engine: live } = await open(100, watched);
    const right = (await generate(live, request)).result.tokenIds;
    expect(await live.setExpertBudget({ percent: 25 })).toMatchObject({ slotsPerLayer: 4 });
    const changes = [75, 30, 50].map((percent) => live.setExpertBudget({ percent }));
    const { result } = await generate(live, request);
    expect((await Promise.all(changes)).map(({ slotsPerLayer }) => slotsPerLayer)).toEqual([12, 5, 8]);
    expect(result.tokenIds).toEqual(right);
    expect(result.stats.slotsPerLayer).toBe(8);
    expect(watched.liveBytes).toBe(result.stats.plannedGpuBytes);
  });

  it('or right after a generation, or during a load, is always answered', async () => {
    const { engine: live } = await open(50);
    const result = await runWith(live, { ...request, maxTokens: 2 }, (count) => {
      if (count < 2) return;
      void live.setExpertBudget({ percent: 25 }).then(() => live.setExpertBudget({ percent: 75 }));
    });
    expect(result.tokenIds).toHaveLength(2);
    expect(await live.setExpertBudget({ percent: 100 })).toMatchObject({ slotsPerLayer: 16 });
    const loading = loadModel(live, NAME, { expertBudget: { percent: 50 } });
    const change = live.setExpertBudget({ percent: 25 });
    expect((await loading).slotsPerLayer).toBe(8);
    expect((await change).slotsPerLayer).toBe(4);
  });

  it('needs a model: NOT_LOADED, before a load, while one fails, and after unload', async () => {
    const live = createLocalEngine({ gpu: sharedGpu });
    await expect(live.setExpertBudget({ percent: 50 })).rejects.toMatchObject({ code: 'NOT_LOADED' });
    const load = loadModel(live, new Uint8Array(100));
    const change = live.setExpertBudget({ percent: 50 });
    await expect(load).rejects.toMatchObject({ code: 'BAD_FILE' });
    await expect(change).rejects.toMatchObject({ code: 'NOT_LOADED' });
    await loadModel(live, 'e5k1-gqa-q4_0');
    const unload = live.unload();
    const late = live.setExpertBudget({ percent: 50 });
    await unload;
    await expect(late).rejects.toMatchObject({ code: 'NOT_LOADED' });
  });
});

/** Delays every read up to 20 ms, and fails 1 % of them; the next read of the same record works. */
function createUnreliableStore(seed: number) {
  const store = createMemoryStore();
  const random = createRandom(seed);
  const failed = new Set<string>();
  const counts = { reads: 0, failures: 0 };
  let isUnreliable = false;
  const unreliable: ModelStore = {
    ...store,
    async readRecord(modelId, key) {
      if (!isUnreliable) return store.readRecord(modelId, key);
      counts.reads++;
      await new Promise((resolve) => setTimeout(resolve, random.number() * 20));
      if (failed.delete(key) || random.number() >= 0.01) return store.readRecord(modelId, key);
      failed.add(key);
      counts.failures++;
      throw new EngineError('STORAGE', `reading record "${key}" failed: try again`);
    },
  };
  return { counts, openStore: async () => unreliable, start: () => (isUnreliable = true) };
}

/**
 * Runs the requests on a model whose pages come late, at a quarter of its experts that changes every 50 tokens.
 * @returns faults and failed reads; tokens are compared with those of a calm run.
 */
async function expectCalmTokens(model: string | Uint8Array<ArrayBuffer>, requests: readonly GenerateRequest[]) {
  const random = createRandom(5);
  const calm: (readonly number[])[] = [];
  const { engine: whole } = await open(100, watchGpu(), undefined, model);
  for (const asked of requests) calm.push((await generate(whole, asked)).result.tokenIds);
  await whole.unload();

  const watched = watchGpu();
  const chaos = createUnreliableStore(6);
  const { engine: live, loaded } = await open(25, watched, chaos.openStore, model);
  chaos.start();
  let planned = loaded.plannedGpuBytes;
  let faults = 0;
  for (const [i, asked] of requests.entries()) {
    const result = await runWith(live, asked, async (count) => {
      expect(watched.liveBytes).toBe(planned);
      if (count % 50 !== 0) return;
      const larger = planned;
      watched.peakBytes = watched.liveBytes;
      planned = (await live.setExpertBudget({ percent: random.pick([25, 25, 32, 50, 60]) })).plannedGpuBytes;
      expect(watched.peakBytes).toBeLessThanOrEqual(Math.max(larger, planned));
    });
    expect(result.tokenIds, `generation ${i}`).toEqual(calm[i]);
    faults += result.stats.faultingLayers;
  }
  return { tokens: calm.flat().length, faults, failures: chaos.counts.failures };
}

it('slow and failing reads and a budget that changes every 50 tokens give the tokens of a calm run', async () => {
  const vocabSize = goldenModels.find(({ name }) => name === NAME)?.config.vocabSize ?? 1;
  const random = createRandom(5);
  // The context holds 128 tokens.
  const requests = Array.from({ length: isFull ? 20 : 3 }, (): GenerateRequest => {
    const tokenIds = Array.from({ length: random.integer(1, 25) }, () => random.integer(0, vocabSize - 1));
    return { tokenIds, maxTokens: 100, ignoreEos: true, sampling: { temperature: 0.8, seed: random.integer(0, 1e9) } };
  });
  const { tokens, faults, failures } = await expectCalmTokens(NAME, requests);
  expect(tokens).toBe(requests.length * 100);
  expect(faults).toBeGreaterThan(100);
  expect(failures).toBeGreaterThan(0);
}, 600_000);

it.runIf(isFull)(
  'the same holds for 150 tokens of the default model',
  async () => {
    const { url } = await (await fetch('/models/default.json')).json();
    const bytes = new Uint8Array(await (await fetch(`/${url}`)).arrayBuffer());
    const tokenIds = [0, 3, 40, 79, 468, 424, 264, 526, 5, 4];
    const sampling = { temperature: 0.8, seed: 3 };
    const { tokens, faults, failures } = await expectCalmTokens(bytes, [
      { tokenIds, maxTokens: 150, ignoreEos: true, sampling },
    ]);
    expect(tokens).toBe(150);
    expect(faults).toBeGreaterThan(100);
    expect(failures).toBeGreaterThan(0);
  },
  900_000,
);
