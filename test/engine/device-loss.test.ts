/** A lost device at many moments: the caller sees the tokens of the calm run. */
import { afterEach, describe, expect, it } from 'vitest';
import type {
  Engine,
  GenerateEvent,
  GenerateRequest,
  GenerateResult,
  GenerateStats,
  LoadProgress,
  MemoryEvent,
} from '../../src/engine/engine';
import { createLocalEngine } from '../../src/engine/local-engine';
import { goldenModels, readGoldenModel } from '../golden';
import { createRandom } from '../unit/random';
import { catchError, generate, openSession, toBits } from './engine-session';
import { createSlowFile } from './slow-file';
import { watchGpu } from './watched-gpu';

// Every loss compiles all kernels anew: f32 has the shortest.
const NAME = 'e16k4-f32';
const PAGED = { expertBudget: { percent: 50 } } as const;
const isFull = Boolean(import.meta.env.WEBMOE_FULL);
const prompts = goldenModels.find(({ name }) => name === NAME)?.prompts ?? [];
const request: GenerateRequest = {
  tokenIds: prompts.flatMap(({ tokenIds }) => tokenIds), // two chunks
  maxTokens: 6,
  ignoreEos: true,
  topLogprobs: 2,
  sampling: { temperature: 1, seed: 5, frequencyPenalty: 0.5 },
};

let engine: Engine | undefined;
afterEach(() => engine?.unload());

/** Loses the latest device behind so many submits of it. */
function loseAfter(watched: ReturnType<typeof watchGpu>, submits: number): void {
  const device = watched.devices.at(-1) as GPUDevice;
  const submit = device.queue.submit.bind(device.queue);
  let count = 0;
  device.queue.submit = (commands) => {
    submit(commands);
    if (++count === submits) device.destroy();
  };
}

describe('a lost device', () => {
  it('at random moments of prefill and decode, with a read-back in flight, costs no token and no bit', async () => {
    const watched = watchGpu(navigator.gpu);
    ({ engine } = await openSession(NAME, PAGED, { gpu: watched.gpu }));
    const before = watched.submits;
    const calm = (await generate(engine, request)).result;
    const submits = watched.submits - before;
    const { integer } = createRandom(9);
    const losses = isFull ? 24 : 2;
    for (let lost = 0, isArmed = false; lost < losses; ) {
      const at = lost === 0 ? 1 : integer(1, submits >> 1);
      // With what earlier runs left on the GPU a run takes fewer submits: the loss may come with the next one.
      if (!isArmed) loseAfter(watched, at);
      const devices = watched.devices.length;
      const events: GenerateEvent[] = [];
      for await (const event of engine.generate(request)) events.push(event);
      isArmed = watched.devices.length === devices;
      if (!isArmed) lost++;
      const done = events.at(-1);
      if (done?.type !== 'done') throw new Error('no result');
      expect(done.result.tokenIds).toEqual(calm.tokenIds);
      expect(toBits(done.result.logprobs)).toEqual(toBits(calm.logprobs));
      // Every token came once, and the loss was said.
      expect(events.flatMap((event) => (event.type === 'token' ? [event.tokenId] : []))).toEqual(calm.tokenIds);
      const isSaid = events.some((event) => event.type === 'warning' && /lost/.test(event.message));
      expect(isSaid, `after submit ${at}`).toBe(!isArmed);
    }
    expect(watched.devices).toHaveLength(1 + losses);
  });

  it('while a budget changes gives the new budget and the same tokens, and the statistics are of all that was computed', async () => {
    const watched = watchGpu(navigator.gpu);
    ({ engine } = await openSession(NAME, PAGED, { gpu: watched.gpu }));
    const plain: GenerateRequest = { ...request, draft: { kind: 'off' } };
    const calm = (await generate(engine, plain)).result;
    const tokenIds: number[] = [];
    let stats: GenerateStats | undefined;
    for await (const event of engine.generate(plain)) {
      if (event.type === 'done') stats = event.result.stats;
      if (event.type !== 'token') continue;
      tokenIds.push(event.tokenId);
      if (tokenIds.length !== 2) continue;
      watched.devices.at(-1)?.destroy();
      expect(await engine.setExpertBudget({ percent: 75 })).toMatchObject({ slotsPerLayer: 12 });
    }
    expect(tokenIds).toEqual(calm.tokenIds);
    expect(engine.model?.slotsPerLayer).toBe(12);
    // The second token was computed twice: before the loss and behind it.
    expect(stats).toMatchObject({ generatedTokens: calm.tokenIds.length, promptTokens: calm.stats.promptTokens });
    expect(stats?.draft.passes).toBe(calm.stats.draft.passes + 1);
    const { byLayer, tiers, hostCache } = stats as GenerateStats;
    const sum = (field: 'needed' | 'present', of = byLayer) => of.reduce((total, layer) => total + layer[field], 0);
    expect(sum('needed')).toBeGreaterThan(sum('needed', calm.stats.byLayer));
    expect(tiers.gpu.pages).toBe(sum('present'));
    // No page of the 16 in each layer was read twice: what RAM has outlives the device.
    expect(hostCache.reads).toBeLessThanOrEqual(byLayer.length * 16);
    expect(hostCache.hits).toBeGreaterThan(0);
  });

  it('while nothing runs is replaced at the next call, and conversations in host RAM outlive it', async () => {
    const watched = watchGpu(navigator.gpu);
    ({ engine } = await openSession(NAME, PAGED, { gpu: watched.gpu }));
    const answered = (await generate(engine, request)).result;
    const told: MemoryEvent[] = [];
    engine.watchMemory((event) => told.push(event));
    const calm = await engine.score({ tokenIds: request.tokenIds ?? [] });
    watched.devices.at(-1)?.destroy();
    // At once, and not only when the next call finds it gone.
    await expect.poll(() => told.length).toBe(1);
    expect(told[0]).toMatchObject({ cause: 'lost', slotsPerLayer: 0, residency: null });
    expect(told[0]?.message).toMatch(/lost/);
    expect(await engine.score({ tokenIds: request.tokenIds ?? [] })).toEqual(calm);
    expect(watched.devices).toHaveLength(2);
    const again = (await generate(engine, request)).result;
    expect(again.stats.reusedTokens).toBeGreaterThan(0);
    expect(toBits(again.logprobs)).toEqual(toBits(answered.logprobs));
    await engine.setExpertBudget({ percent: 25 });
    await engine.unload();
    expect(told.map(({ cause, slotsPerLayer }) => [cause, slotsPerLayer])).toEqual([
      ['lost', 0],
      ['restored', 8],
      ['budget', 4],
      ['unload', 0],
    ]);
    for (const { residency, slotsPerLayer, usedGpuBytes, plannedGpuBytes } of told.slice(1, 3)) {
      const layers = (residency?.length ?? 0) / 16;
      expect(residency?.reduce((sum, page) => sum + page)).toBe(layers * slotsPerLayer);
      expect(usedGpuBytes).toBeGreaterThan(0);
      expect(usedGpuBytes).toBeLessThanOrEqual(plannedGpuBytes);
    }
  });

  it('during a load is replaced before the load ends', async () => {
    const file = new Blob([await readGoldenModel('e5k1-gqa-q4_0')]);
    for (const phase of ['compile', 'weights'] as const) {
      const watched = watchGpu(navigator.gpu);
      engine = createLocalEngine({ gpu: watched.gpu });
      const lose = (progress: LoadProgress): void => {
        if (progress.phase === phase && watched.devices.length === 1) watched.devices[0]?.destroy();
      };
      await engine.load({ kind: 'file', file, name: 'm' }, { store: 'memory' }, lose);
      expect((await generate(engine, { tokenIds: [1], maxTokens: 2, ignoreEos: true })).result.tokenIds).toHaveLength(
        2,
      );
      expect(watched.devices.length).toBe(2);
    }
  });

  it('during a live download costs no token, no bit and no byte twice, and the download ends', async () => {
    const file = await readGoldenModel(NAME);
    const slow = createSlowFile(file);
    const watched = watchGpu(navigator.gpu);
    engine = createLocalEngine({ gpu: watched.gpu, fetch: slow.fetch });
    const options = { ...PAGED, store: 'memory', startEarly: true } as const;
    const source = { kind: 'url', url: slow.url } as const;
    expect(await engine.load(source, options)).toMatchObject({ installed: true, isLocal: false });
    // Few rows: in tiles a prompt would fetch every page.
    const short = { ...request, tokenIds: (request.tokenIds ?? []).slice(0, 3) };
    const missingBytes: number[] = [];
    let result: GenerateResult | undefined;
    // Once while its first pages are read, and once when the rest has begun to come.
    loseAfter(watched, 1);
    for await (const event of engine.generate(short)) {
      if (event.type === 'done') result = event.result;
      if (event.type === 'token' && missingBytes.length === 1) {
        slow.pieceMs = 1000;
        watched.devices.at(-1)?.destroy();
      }
      if (event.type !== 'warning') continue;
      expect(event.message).toMatch(/lost/);
      missingBytes.push(file.byteLength - slow.sentBytes);
      slow.pieceMs = 0;
    }
    expect(watched.devices).toHaveLength(3);
    expect(Math.min(...missingBytes)).toBeGreaterThan(file.byteLength / 10);
    const getShare = async () => (await (engine as Engine).listModels('memory'))[0]?.storedShare;
    await expect.poll(getShare, { timeout: 20_000 }).toBe(1);
    expect(slow.sentBytes).toBeLessThan(file.byteLength * 1.1);
    const calm = (await generate(engine, short)).result;
    expect(result?.tokenIds).toEqual(calm.tokenIds);
    expect(toBits(result?.logprobs ?? [])).toEqual(toBits(calm.logprobs));
    expect(await engine.load(source, options)).toMatchObject({ installed: false, isLocal: true });
  });

  it('again and again first shrinks the pool, then ends the call with DEVICE_LOST, and the next call works', async () => {
    const watched = watchGpu(navigator.gpu);
    ({ engine } = await openSession(NAME, { expertBudget: { percent: 100 } }, { gpu: watched.gpu }));
    const calm = (await generate(engine, request)).result;
    const told: MemoryEvent[] = [];
    engine.watchMemory((event) => told.push(event));
    const losing = async (): Promise<void> => {
      for await (const event of (engine as Engine).generate(request)) {
        if (event.type === 'prefill' || event.type === 'warning') watched.devices.at(-1)?.destroy();
      }
    };
    const { error } = await catchError(losing());
    expect(error).toMatchObject({ code: 'DEVICE_LOST', message: expect.stringMatching(/5 devices were lost/) });
    expect(engine.model?.slotsPerLayer).toBe(4);
    const restored = told.filter(({ cause }) => cause === 'restored');
    expect(restored.map(({ slotsPerLayer }) => slotsPerLayer)).toEqual([16, 16, 8, 4]);
    expect(restored.map(({ message }) => message?.includes('slots per layer') ?? false)).toEqual([
      false,
      false,
      true,
      true,
    ]);
    expect((await generate(engine, request)).result.tokenIds).toEqual(calm.tokenIds);
  });
});
