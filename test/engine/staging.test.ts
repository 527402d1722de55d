/** Pages that are read straight into mapped GPU memory: the same answers, whatever happens to store and device meanwhile. */
import { afterEach, expect, it } from 'vitest';
import { createEngine } from '../../src/client/remote-engine';
import type { Engine, GenerateRequest, GenerateStats, LoadOptions } from '../../src/engine/engine';
import { inspectModel } from '../../src/engine/inspect-model';
import { createMemoryStore } from '../../src/store/memory-store';
import type { ModelStore } from '../../src/store/model-store';
import { readGoldenModel } from '../golden';
import { createRandom } from '../unit/random';
import { generate, loadModel, openSession, toBits } from './engine-session';
import { openGolden } from './golden-runtime';
import { sharedGpu } from './shared-gpu';
import { watchGpu } from './watched-gpu';

// Devices that are lost compile all kernels anew: f32 has the shortest.
const NAME = 'e16k4-f32';
const LEAST = { expertBudget: { percent: 25 }, hostCacheBytes: 0 } as const;
const STAGED = { ...LEAST, staging: 'on' } as const;
const STAGING_PAGES = 4;
const isFull = Boolean(import.meta.env.WEBMOE_FULL);
const cases = isFull ? 40 : 2;
const request: GenerateRequest = {
  tokenIds: [5, 9, 30, 2, 17],
  maxTokens: 12,
  ignoreEos: true,
  topLogprobs: 3,
  draft: { kind: 'off' },
  sampling: { temperature: 0.9, seed: 4 },
  paging: { predictor: 'none', runAhead: false },
};

let cleanUp: (() => Promise<void>) | undefined;
afterEach(async () => {
  await cleanUp?.();
  cleanUp = undefined;
});

/** The memory store, with something done to each of its reads into given memory. */
function watchStore(onReadInto: (key: string, target: Uint8Array) => Promise<void> | void = () => {}) {
  const base = createMemoryStore();
  const keys: string[] = [];
  const store: ModelStore = {
    ...base,
    async readRecordInto(modelId, key, target) {
      keys.push(key);
      const isRead = await base.readRecordInto?.(modelId, key, target);
      await onReadInto(key, target);
      return isRead ?? false;
    },
  };
  return { base, store, keys };
}

async function ask(engine: Engine) {
  const warnings: string[] = [];
  let answer: { tokenIds: readonly number[]; bits: string[]; stats: GenerateStats } | undefined;
  for await (const event of engine.generate(request)) {
    if (event.type === 'warning') warnings.push(event.message);
    if (event.type !== 'done') continue;
    const { tokenIds, logprobs, stats } = event.result;
    answer = { tokenIds, bits: toBits(logprobs), stats };
  }
  if (!answer) throw new Error('no result');
  return { ...answer, warnings };
}

it('from OPFS in the worker: the same tokens and bits as through arrays, at the smallest budget', async () => {
  const engine = createEngine();
  cleanUp = async () => {
    const modelId = engine.model?.modelId;
    await engine.unload();
    if (modelId) await engine.removeModel('opfs', modelId);
    engine.terminate();
  };
  const load = async (options: LoadOptions) => {
    const { plannedGpuBytes } = await loadModel(engine, NAME, { store: 'opfs', ...options });
    const { result } = await generate(engine, request);
    return { plannedGpuBytes, ...result, bits: toBits(result.logprobs) };
  };
  const off = await load({ ...LEAST, staging: 'off' });
  const on = await load(STAGED);
  expect(on.bits).toEqual(off.bits);
  expect(on.stats.faultingLayers).toBe(off.stats.faultingLayers);
  expect(off.stats.faultingLayers).toBeGreaterThan(0);
  expect(off.stats.tiers.staged).toEqual({ pages: 0, bytes: 0, usedBytes: 0, budgetBytes: 0 });
  const { pages, bytes, usedBytes } = on.stats.tiers.staged;
  expect(pages).toBeGreaterThan(0);
  const pageBytes = (bytes as number) / pages;
  expect(usedBytes).toBe(STAGING_PAGES * pageBytes);
  expect(on.plannedGpuBytes - off.plannedGpuBytes).toBe(STAGING_PAGES * pageBytes);
  expect(on.stats.peakGpuBytes).toBe(on.plannedGpuBytes);
  if (!isFull) return;
  // What is measured the first time is what a second load gets.
  const measured = await load(LEAST);
  const remembered = await load(LEAST);
  expect([measured.bits, remembered.bits]).toEqual([off.bits, off.bits]);
  expect([off.plannedGpuBytes, on.plannedGpuBytes]).toContain(measured.plannedGpuBytes);
  expect(remembered.plannedGpuBytes).toBe(measured.plannedGpuBytes);
});

it('is in the plan to the byte, goes where every page gets a slot, comes back with the first that has none, and is freed', async () => {
  const watched = watchGpu();
  const options = { ...STAGED, kvType: 'auto', store: 'memory' } as const;
  const { engine, loaded } = await openSession(NAME, options, { gpu: watched.gpu });
  cleanUp = () => engine.unload();
  const file = new Blob([await readGoldenModel(NAME)]);
  const report = await inspectModel({ kind: 'file', file, name: 'tiny.gguf' });
  const adapter = await sharedGpu.requestAdapter();
  expect(report.planMemory({ ...options, adapter })).toMatchObject({
    totalBytes: loaded.plannedGpuBytes,
    ifStaged: null,
  });
  expect([watched.liveBytes, watched.peakBytes]).toEqual([loaded.plannedGpuBytes, loaded.plannedGpuBytes]);
  const paged = await ask(engine);
  expect(paged.stats.tiers.staged.pages).toBeGreaterThan(0);
  const { plannedGpuBytes } = await engine.setExpertBudget({ percent: 100 });
  expect(watched.liveBytes).toBe(plannedGpuBytes);
  const whole = await ask(engine);
  expect(whole.stats.tiers.staged).toMatchObject({ usedBytes: 0, budgetBytes: 0 });
  await engine.setExpertBudget({ percent: 25 });
  expect(watched.liveBytes).toBe(loaded.plannedGpuBytes);
  const again = await ask(engine);
  expect(again.stats.tiers.staged.pages).toBeGreaterThan(whole.stats.tiers.staged.pages);
  for (const { bits } of [whole, again]) expect(bits).toEqual(paged.bits);
  await engine.unload();
  expect(watched.liveBytes).toBe(0);
});

it('answers the same, bit for bit, under random budgets, RAM tiers, predictors, drafts and samplings', async () => {
  const random = createRandom(31);
  const { store, keys } = watchStore();
  const { engine } = await openSession(NAME, { staging: 'off' }, { openStore: async () => store });
  cleanUp = () => engine.unload();
  let staged = 0;
  for (let i = 0; i < cases; i++) {
    const options = {
      expertBudget: { percent: random.integer(25, 75) },
      hostCacheBytes: random.pick([0, 60_000, 200_000]),
    };
    const varied: GenerateRequest = {
      ...request,
      tokenIds: Array.from({ length: random.integer(1, 40) }, () => random.integer(3, 250)),
      sampling: { temperature: random.pick([0, 1]), seed: i },
      paging: {
        predictor: random.pick(['none', 'ensemble', 'recency'] as const),
        runAhead: random.pick([true, false]),
        segmentLayers: random.integer(1, 9),
      },
      draft: { kind: random.pick(['off', 'self', 'ngram'] as const) },
    };
    const answers: unknown[] = [];
    for (const staging of ['off', 'on'] as const) {
      await loadModel(engine, NAME, { ...options, staging });
      const { result } = await generate(engine, varied);
      answers.push([result.tokenIds, toBits(result.logprobs)]);
      staged += result.stats.tiers.staged.pages;
    }
    expect(answers[1], JSON.stringify([options, varied])).toEqual(answers[0]);
  }
  expect(staged).toBeGreaterThan(0);
  expect(keys.length).toBeGreaterThanOrEqual(staged);
});

it('is left alone by pages that host RAM keeps', async () => {
  const { store, keys } = watchStore();
  const { engine } = await openSession(NAME, { ...STAGED, hostCacheBytes: 1 << 30 }, { openStore: async () => store });
  cleanUp = () => engine.unload();
  const { stats } = await ask(engine);
  expect(stats.faultingLayers).toBeGreaterThan(0);
  expect([stats.tiers.staged.pages, keys]).toEqual([0, []]);
});

it('a flipped bit is found before the page is used, and the page fetched again', async () => {
  const calmStore = watchStore();
  const calm = await openSession(NAME, STAGED, { openStore: async () => calmStore.store });
  cleanUp = () => calm.engine.unload();
  const { bits } = await ask(calm.engine);
  // None of those that filled the slots at load: their digests have been checked.
  const key = calmStore.keys.find((read) => Number(read.split('/').at(-1)) >= calm.loaded.slotsPerLayer) as string;
  await calm.engine.unload();

  const damaged = watchStore();
  const { engine, loaded } = await openSession(NAME, STAGED, { openStore: async () => damaged.store });
  cleanUp = () => engine.unload();
  await damaged.base.writeRecords(loaded.modelId, [
    [key, (await damaged.base.readRecord(loaded.modelId, key)).map((byte, i) => (i === 9 ? byte ^ 4 : byte))],
  ]);
  const answer = await ask(engine);
  expect(damaged.keys).toContain(key);
  expect(answer.bits).toEqual(bits);
  expect(answer.stats.tiers.repairs).toBe(1);
  expect(answer.warnings).toEqual([expect.stringMatching(`"${key}".*SHA-256.*fetched again`)]);
  // It is whole again, and in the store.
  const again = await ask(engine);
  expect([again.bits, again.warnings, again.stats.tiers.repairs]).toEqual([bits, [], 1]);
});

it('reads that fail or end early cost the ordinary read, and nothing else', async () => {
  let reads = 0;
  const { store } = watchStore(() => {
    if (++reads % 3 === 0) throw new DOMException('the disk is gone', 'NotReadableError');
  });
  const { engine } = await openSession(NAME, STAGED, { openStore: async () => store });
  cleanUp = () => engine.unload();
  const first = await ask(engine);
  const stagedBefore = first.stats.tiers.staged.pages;
  const second = await ask(engine);
  expect(second.bits).toEqual(first.bits);
  expect([first.warnings, second.stats.tiers.repairs]).toEqual([[], 0]);
  // No mapped buffer was lost to a failing read.
  expect(second.stats.tiers.staged.pages - stagedBefore).toBeGreaterThan(STAGING_PAGES);
});

it('a device that is lost while a page is read into its memory costs no token and no bit', async () => {
  const watched = watchGpu(navigator.gpu);
  let losesAt = 0;
  const { store, keys } = watchStore(() => {
    if (keys.length === losesAt) watched.devices.at(-1)?.destroy();
  });
  const { engine, loaded } = await openSession(NAME, STAGED, { gpu: watched.gpu, openStore: async () => store });
  cleanUp = () => engine.unload();
  const calm = await ask(engine);
  losesAt = keys.length + 5;
  const lost = await ask(engine);
  expect(watched.devices).toHaveLength(2);
  expect(lost.bits).toEqual(calm.bits);
  expect(lost.warnings).toEqual([expect.stringMatching(/lost.*a new device was opened/)]);
  expect(lost.stats.tiers.staged.pages).toBeGreaterThan(0);
  expect(lost.stats.plannedGpuBytes).toBe(loaded.plannedGpuBytes);
});

it('"on" says where it has nothing to do, and what is no choice is refused', async () => {
  const { readRecordInto: _, ...store } = createMemoryStore();
  const { engine } = await openSession(NAME, LEAST, { openStore: async () => store });
  cleanUp = () => engine.unload();
  const warnings: string[] = [];
  const source = { kind: 'file', file: new Blob([await readGoldenModel(NAME)]), name: 'tiny.gguf' } as const;
  await engine.load(source, { store: 'memory', ...STAGED }, (progress) => {
    if (progress.phase === 'warning') warnings.push(progress.message);
  });
  expect(warnings.filter((message) => /staging/.test(message))).toEqual([
    expect.stringMatching(/staging "on" has nothing to do.*use the opfs store/),
  ]);
  await expect(engine.load(source, { store: 'memory', staging: 'yes' as 'on' })).rejects.toMatchObject({
    code: 'BAD_ARGUMENT',
    message: 'staging "yes" is unknown: give one of auto, on, off',
  });
});

it('"auto" is measured once with a model that is paged, remembered, and then believed', async () => {
  const notes = createMemoryStore();
  const readNote = async () =>
    (await notes.readState('webmoe', 'staging')) as { version: number; isFaster: Record<string, boolean> } | undefined;
  const open = async (percent: number) => {
    const { runtime } = await openGolden(NAME, { expertBudget: { percent }, notes });
    const { plan, memory, reader } = runtime;
    const { peakBytes } = memory;
    runtime.destroy();
    expect(peakBytes).toBe(plan.totalBytes);
    return { pages: plan.requests.staging.length, reads: reader.counters.storeReads };
  };
  await open(100);
  expect(await readNote()).toBeUndefined();
  const measured = await open(50);
  const note = await readNote();
  const [[name, isFaster] = ['', false]] = Object.entries(note?.isFaster ?? {});
  expect(note?.version).toBe(1);
  expect(name).toMatch(/pages of 2\^\d+ bytes$/);
  expect(measured.pages).toBe(isFaster ? STAGING_PAGES : 0);
  for (const believed of [true, false]) {
    await notes.writeState('webmoe', 'staging', { version: 1, isFaster: { [name]: believed } });
    const opened = await open(50);
    expect(opened.pages).toBe(believed ? STAGING_PAGES : 0);
    expect(opened.reads).toBeLessThan(measured.reads);
  }
  await notes.writeState('webmoe', 'staging', { version: 0, isFaster: { other: true } });
  await open(50);
  expect(await readNote()).toMatchObject({ version: 1, isFaster: { [name]: expect.any(Boolean) } });
});
