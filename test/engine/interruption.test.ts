/** What stops a generation from outside, and that the engine is whole afterwards: the same request gives the same tokens. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Engine, GenerateRequest, LoadProgress } from '../../src/engine/engine';
import { createLocalEngine } from '../../src/engine/local-engine';
import { EngineError } from '../../src/errors';
import { createMemoryStore } from '../../src/store/memory-store';
import type { ModelStore } from '../../src/store/model-store';
import { goldenModels, readGoldenModel } from '../golden';
import { catchError, generate, loadModel, openSession } from './engine-session';
import { sharedGpu } from './shared-gpu';
import { watchFile } from './watched-file';
import { watchGpu } from './watched-gpu';

const NAME = 'e16k4-q4_0';
/** Every fault is served by waves in prefill: fewer slots than a chunk's experts. */
const SMALLEST = { expertBudget: { percent: 25 } } as const;
const isFull = Boolean(import.meta.env.WEBMOE_FULL);

const model = goldenModels.find(({ name }) => name === NAME);
const longPrompt = (model?.prompts ?? []).flatMap(({ tokenIds }) => tokenIds); // 73 tokens: two chunks
/** Without guesses, whose passes are timed: test/engine/drafting-passes.test.ts interrupts those. */
const draft = { kind: 'off' } as const;
const request: GenerateRequest = { tokenIds: longPrompt, maxTokens: 5, ignoreEos: true, draft };
/** A request whose answer transformers gave. */
const goldenRequest: GenerateRequest = {
  tokenIds: model?.prompts[model.decode.prompt]?.tokenIds ?? [],
  maxTokens: model?.decode.tokenIds.length ?? 0,
  ignoreEos: true,
};

let engine: Engine | undefined;
afterEach(async () => {
  await engine?.unload();
  engine = undefined;
  vi.restoreAllMocks();
});

async function open(...args: Parameters<typeof openSession>): Promise<Engine> {
  engine = (await openSession(...args)).engine;
  return engine;
}

async function expectWhole(whole: Engine): Promise<void> {
  expect((await generate(whole, goldenRequest)).result.tokenIds).toEqual(model?.decode.tokenIds);
}

describe('abort', () => {
  it('before the first token, in prefill and in decode ends with ABORTED within one token', async () => {
    const engine = await open(NAME, SMALLEST);
    const right = (await generate(engine, request)).result.tokenIds;

    for (const stopAt of ['call', 'prefill', 'token'] as const) {
      const controller = new AbortController();
      if (stopAt === 'call') controller.abort('enough');
      let after = 0;
      const run = async (): Promise<void> => {
        for await (const { type } of engine.generate({ ...request, maxTokens: 30 }, controller.signal)) {
          if (controller.signal.aborted) after++;
          if (type === stopAt) controller.abort('enough');
        }
      };
      const { error } = await catchError(run());
      expect(error).toMatchObject({ name: 'EngineError', code: 'ABORTED', cause: 'enough' });
      expect(after, stopAt).toBeLessThanOrEqual(1);
      await expectWhole(engine);
    }
    expect((await generate(engine, request)).result.tokenIds).toEqual(right);
  });

  it('while a pass runs ends with ABORTED before another pass', async () => {
    const engine = await open(NAME, SMALLEST);
    const controller = new AbortController();
    const iterator = engine.generate({ ...request, maxTokens: 30 }, controller.signal)[Symbol.asyncIterator]();
    const first = iterator.next();
    controller.abort();
    const rest = async (): Promise<number> => {
      let events = 0;
      for (let next = await first; !next.done; next = await iterator.next()) events++;
      return events;
    };
    await expect(rest()).rejects.toMatchObject({ code: 'ABORTED' });
    await expectWhole(engine);
  });

  it('of a load leaves no model loaded and no GPU memory, and what was installed can be continued', async () => {
    const file = new Blob([await readGoldenModel('e5k1-gqa-q4_0')]);
    for (const phase of ['install', 'compile', 'weights'] as const) {
      const watched = watchGpu();
      const engine = createLocalEngine({ gpu: watched.gpu });
      const controller = new AbortController();
      const stop = (progress: LoadProgress): void => {
        if (progress.phase === phase) controller.abort();
      };
      const load = engine.load({ kind: 'file', file, name: 'm' }, { store: 'memory' }, stop, controller.signal);
      await expect(load, phase).rejects.toMatchObject({ code: 'ABORTED' });
      const [listed] = await engine.listModels('memory');
      if (phase === 'install') expect(listed?.storedShare).toBeLessThanOrEqual(1);
      else expect(listed?.storedShare).toBe(1);
      await expect(generate(engine, request)).rejects.toMatchObject({ code: 'NOT_LOADED' });
      for (const device of watched.devices) expect((await device.lost).reason).toBe('destroyed');
    }
  });
});

describe('leaving the loop', () => {
  it('releases the engine at once', async () => {
    const engine = await open(NAME, SMALLEST);
    for (const leaveAt of ['prefill', 'token'] as const) {
      for await (const { type } of engine.generate(request)) if (type === leaveAt) break;
      await expectWhole(engine);
    }
  });

  it('by an error of the caller releases the engine too', async () => {
    const engine = await open('e5k1-gqa-q4_0');
    const run = async (): Promise<void> => {
      for await (const { type } of engine.generate({ tokenIds: [1, 2] })) if (type === 'token') throw new Error('mine');
    };
    await expect(run()).rejects.toThrow('mine');
    expect((await generate(engine, { tokenIds: [1], maxTokens: 1 })).result.tokenIds).toHaveLength(1);
  });
});

describe('while a generation runs', () => {
  it('another call is refused as BUSY and the first goes on', async () => {
    const engine = await open(NAME, SMALLEST);
    const tokenIds: number[] = [];
    for await (const event of engine.generate(goldenRequest)) {
      if (event.type !== 'token') continue;
      tokenIds.push(event.tokenId);
      if (tokenIds.length !== 2) continue;
      await expect(generate(engine, request)).rejects.toMatchObject({ code: 'BUSY' });
      await expect(loadModel(engine, 'e1k1-f32')).rejects.toMatchObject({ code: 'BUSY' });
      await expect(engine.unload()).rejects.toMatchObject({ code: 'BUSY' });
      expect(await engine.listModels('memory')).toHaveLength(1);
    }
    expect(tokenIds).toEqual(model?.decode.tokenIds);
  });
});

describe('a store', () => {
  it('that cannot let go of a model fails the unload and no later call', async () => {
    const store = createMemoryStore();
    const stuck: ModelStore = { ...store, release: () => Promise.reject(new EngineError('STORAGE', 'closing failed')) };
    const engine = createLocalEngine({ gpu: sharedGpu, openStore: async () => stuck });
    await loadModel(engine, 'e1k1-f32');
    await expect(engine.unload()).rejects.toMatchObject({ code: 'STORAGE' });
    await expect(generate(engine, { tokenIds: [1] })).rejects.toMatchObject({ code: 'NOT_LOADED' });
    await loadModel(engine, 'e1k1-f32');
    await expect(engine.unload()).rejects.toMatchObject({ code: 'STORAGE' });
  });

  it('that fails to read a page whose file is gone gives its error, and the same request works when it has recovered', async () => {
    const store = createMemoryStore();
    const file = watchFile();
    let reads = 0;
    let failAt = Number.POSITIVE_INFINITY;
    const failing: ModelStore = {
      ...store,
      async readRecord(modelId, key) {
        if (++reads >= failAt) throw new EngineError('STORAGE', `reading record "${key}" failed: the disk is gone`);
        return store.readRecord(modelId, key);
      },
    };
    const engine = await open(NAME, SMALLEST, { openStore: async () => failing });
    reads = 0;
    // From `failAt` on all reads fail: a guessed page may fail unnoticed and be read again when it is needed.
    const demandOnly: GenerateRequest = { ...request, paging: { predictor: 'none', runAhead: false } };
    const right = (await generate(engine, demandOnly)).result.tokenIds;
    const most = reads;
    expect(most).toBeGreaterThan(20);

    // In the first wave of a layer, in later ones, in later layers.
    const points = isFull ? Array.from({ length: most }, (_, i) => i + 1) : [20];
    for (const point of points) {
      for (const asked of [demandOnly, request]) {
        // Nothing in host memory.
        await loadModel(engine, NAME, SMALLEST);
        reads = 0;
        failAt = point;
        file.isGone = true;
        await expect(generate(engine, asked), `read ${point}`).rejects.toMatchObject({ code: 'STORAGE' });
        failAt = Number.POSITIVE_INFINITY;
        file.isGone = false;
        expect((await generate(engine, asked)).result.tokenIds, `after read ${point}`).toEqual(right);
      }
    }
    await expectWhole(engine);
  });

  it.each([
    ['that is full in the middle of an install', {}],
    ['whose budget is less than the model', { storeBudgetBytes: 600_000 }],
  ])('%s lets the model run all the same, says so, and keeps what it has', async (_, budget) => {
    const right = await open(NAME, SMALLEST);
    const expected = (await generate(right, request)).result.tokenIds;
    await right.unload();
    const store = createMemoryStore();
    let writes = 0;
    const full: ModelStore = {
      ...store,
      async writeRecords(modelId, records) {
        if (++writes > 3 && !('storeBudgetBytes' in budget))
          throw new EngineError('STORAGE_FULL', 'no room on the disk');
        return store.writeRecords(modelId, records);
      },
    };
    const warnings: string[] = [];
    engine = createLocalEngine({ gpu: sharedGpu, openStore: async () => full });
    const file = new Blob([await readGoldenModel(NAME)]);
    await engine.load({ kind: 'file', file, name: NAME }, { store: 'memory', ...SMALLEST, ...budget }, (progress) => {
      if (progress.phase === 'warning') warnings.push(progress.message);
    });
    expect(warnings).toContainEqual(
      expect.stringMatching(/needs \d+ bytes of storage|its budget is 600000.*the model runs all the same/),
    );
    const { result } = await generate(engine, request);
    expect(result.tokenIds).toEqual(expected);
    const [listed] = await engine.listModels('memory');
    expect(listed?.storedShare).toBeGreaterThan(0);
    expect(listed?.storedShare).toBeLessThan(1);
  });

  it('that fails between two waves of a layer leaves what is resident in use', async () => {
    const store = createMemoryStore();
    const file = watchFile();
    let failing = false;
    const flaky: ModelStore = {
      ...store,
      async readRecord(modelId, key) {
        if (failing) throw new EngineError('STORAGE', `reading record "${key}" failed: the disk is gone`);
        return store.readRecord(modelId, key);
      },
    };
    // 5 experts, 2 slots: the first wave of a layer has one expert and shows only that one.
    const engine = await open('e5k1-gqa-q4_0', { expertBudget: { percent: 40 } }, { openStore: async () => flaky });
    const prompt = goldenModels.find(({ name }) => name === 'e5k1-gqa-q4_0')?.prompts[2]?.tokenIds ?? [];
    failing = true;
    file.isGone = true;
    await expect(generate(engine, { tokenIds: prompt })).rejects.toMatchObject({ code: 'STORAGE' });
    failing = false;
    file.isGone = false;
    const answer = async (tokenId: number) =>
      (await generate(engine, { tokenIds: [tokenId], maxTokens: 1, ignoreEos: true })).result.tokenIds;
    const after: (readonly number[])[] = [];
    for (let tokenId = 0; tokenId < 12; tokenId++) after.push(await answer(tokenId));
    for (let tokenId = 0; tokenId < 12; tokenId++) expect(await answer(tokenId)).toEqual(after[tokenId]);
  });

  it('with a changed page gives CORRUPT while its file is gone, and fetches the page again when it is back', async () => {
    const store = createMemoryStore();
    const { engine: opened, loaded } = await openSession(NAME, SMALLEST, { openStore: async () => store });
    engine = opened;
    // A page that no slot took at load.
    const key = `page/1/${loaded.experts - 1}`;
    const page = await store.readRecord(loaded.modelId, key);
    const changed = page.slice();
    changed[100] = (changed[100] as number) ^ 1;
    await store.writeRecords(loaded.modelId, [[key, changed]]);

    const file = watchFile();
    const warnings: string[] = [];
    const run = async (): Promise<number> => {
      for await (const event of opened.generate(request)) {
        if (event.type === 'warning') warnings.push(event.message);
        if (event.type === 'done') return event.result.stats.tiers.repairs;
      }
      return -1;
    };
    file.isGone = true;
    for (let i = 0; i < 2; i++) {
      const { error } = await catchError(run());
      expect(error).toMatchObject({ name: 'EngineError', code: 'CORRUPT', message: expect.stringContaining(key) });
    }
    expect(await engine.listModels('memory')).toHaveLength(1);
    file.isGone = false;
    expect(await run()).toBe(1);
    expect(warnings).toEqual([expect.stringMatching(new RegExp(`"${key}".*is fetched again from`))]);
    await expectWhole(engine);
    expect(await store.readRecord(loaded.modelId, key)).toEqual(page);

    await store.writeRecords(loaded.modelId, [[key, changed]]);
    await store.removeRecords(loaded.modelId, ['page/0/0', 'tensor/embedding']);
    await loadModel(engine, NAME);
    await expectWhole(engine);
    expect(await store.readRecord(loaded.modelId, key)).toEqual(page);
    expect((await store.readDigests(loaded.modelId)).has('tensor/embedding')).toBe(true);
  });
});
