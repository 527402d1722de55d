/** Settings of the kernels that only move work: no bit of any answer follows them, whoever chose them. */
import { afterEach, describe, expect, it } from 'vitest';
import type { Engine, KernelOptions } from '../../src/engine/engine';
import { type Candidate, listTrialCandidates, runTrial } from '../../src/engine/kernel-trial';
import { createLocalEngine } from '../../src/engine/local-engine';
import { EngineError } from '../../src/errors';
import { TUNING_SETTINGS } from '../../src/kernels/tuning';
import { createMemoryStore } from '../../src/store/memory-store';
import type { ModelStore } from '../../src/store/model-store';
import { readGoldenModel } from '../golden';
import { generate, openSession, toBits } from './engine-session';
import { computeLogits, openGolden } from './golden-runtime';
import { sharedGpu } from './shared-gpu';
import { watchGpu } from './watched-gpu';

const isFull = Boolean(import.meta.env.WEBMOE_FULL);

/** Compiling takes a software adapter long: in `npm test` one setting is tried. */
const TRIED: KernelOptions = isFull
  ? { trial: 'load' }
  : { trial: 'load', tuning: { rowTiles: 8, matmulLanes: 4, expertLanes: 4 } };
const PLAIN = 'rowTiles 8, expertTiles 8, matmulLanes 4, expertLanes 4';

const engines: Engine[] = [];
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.unload();
});

interface Kept {
  readonly id: string;
  readonly name: string;
  readonly value: { readonly tuning: Readonly<Record<string, number>> };
}

/** A store, what trials have kept in it, and when they first did. */
function watchStore() {
  const store = createMemoryStore();
  const kept: Kept[] = [];
  let tell = (): void => {};
  const written = new Promise<void>((resolve) => {
    tell = resolve;
  });
  const watched: ModelStore = {
    ...store,
    async writeState(id, name, value) {
      await store.writeState(id, name, value);
      if (!name.startsWith('kernel-trial/')) return;
      kept.push({ id, name, value: value as Kept['value'] });
      tell();
    },
  };
  return { store: watched, kept, written };
}

/** In full long enough for tiles, whose kernels take longest to compile. */
const PROMPT = Array.from({ length: isFull ? 19 : 12 }, (_, i) => 3 + ((i * i + 7 * i) % 45));

/** Half of the experts: a setting must not show in a paged answer either. */
async function open(kernels: KernelOptions, store: ModelStore = createMemoryStore()) {
  const options = { kernels, expertBudget: { percent: 50 } };
  const { engine, loaded } = await openSession('e16k4-q4_0', options, { openStore: async () => store });
  engines.push(engine);
  const answer = async () => {
    const { result } = await generate(engine, {
      tokenIds: PROMPT,
      maxTokens: 4,
      ignoreEos: true,
      topLogprobs: 4,
      reusePrefix: false,
    });
    expect(result.stats.faultingLayers).toBeGreaterThan(0);
    return toBits(result.logprobs);
  };
  return { engine, loaded, answer };
}

describe('settings that are forced', () => {
  it('give the same bits, and are named', async () => {
    const plain = await open({});
    const forced = await open({ tuning: { rowTiles: 3, expertTiles: 1, matmulLanes: 12, expertLanes: 20 } });
    expect(plain.loaded.variants.tuning).toBe(PLAIN);
    expect([plain, forced].map(({ loaded }) => loaded.variants.tuningFrom)).toEqual(['default', 'options']);
    expect(forced.loaded.variants.tuning).toBe('rowTiles 3, expertTiles 1, matmulLanes 12, expertLanes 20');
    expect(await forced.answer()).toEqual(await plain.answer());
  });
});

describe('a trial', () => {
  it('chooses once for an adapter and a model: later loads have its settings from the store, and the same bits', async () => {
    const { store, kept } = watchStore();
    const plain = await open({});
    const tried = await open(TRIED, store);
    expect(tried.loaded.variants.tuningFrom).toBe('trial');
    expect(kept).toHaveLength(1);
    const later = await open(TRIED, store);
    expect(later.loaded.variants).toEqual({ ...tried.loaded.variants, tuningFrom: 'cache' });
    expect(kept).toHaveLength(1);
    // Whatever the trial chose, what is used is what is kept.
    const [first] = kept as [Kept];
    await store.writeState(first.id, first.name, { ...first.value, tuning: { ...first.value.tuning, expertTiles: 2 } });
    const changed = await open(TRIED, store);
    expect(changed.loaded.variants).toMatchObject({
      tuning: tried.loaded.variants.tuning?.replace(/expertTiles \d+/, 'expertTiles 2'),
    });
    const bits = await plain.answer();
    expect(await tried.answer()).toEqual(bits);
    expect(await changed.answer()).toEqual(bits);
    // Kept by other kernels: not believed, tried again.
    await store.writeState(first.id, first.name, { ...first.value, version: 'another' });
    expect((await open({ ...TRIED, trial: false }, store)).loaded.variants.tuningFrom).not.toBe('cache');
    expect((await open(TRIED, store)).loaded.variants.tuningFrom).toBe('trial');
  });

  it('runs while no call does, for later loads; a call that comes meanwhile is served', async () => {
    const { store, kept, written } = watchStore();
    const idle = await open({ ...TRIED, trial: 'idle' }, store);
    const { tuning } = idle.loaded.variants;
    const bits = await idle.answer();
    await written;
    expect(await idle.answer()).toEqual(bits);
    expect(kept).toHaveLength(1);
    expect(idle.loaded.variants.tuning).toBe(tuning);
    expect((await open({ ...TRIED, trial: 'idle' }, store)).loaded.variants.tuningFrom).toBe('cache');
  });

  it('does not begin while the slots change, and does when they have', async () => {
    const { store, kept, written } = watchStore();
    let change = (): void => {};
    let isChanging = false;
    const changed = new Promise<void>((resolve) => {
      change = resolve;
    });
    const slow: ModelStore = {
      ...store,
      async readRecord(modelId, key) {
        if (isChanging) await changed;
        return store.readRecord(modelId, key);
      },
    };
    const watched = watchGpu();
    const engine = createLocalEngine({ gpu: watched.gpu, openStore: async () => slow });
    engines.push(engine);
    const file = new Blob([await readGoldenModel('e16k4-q4_0')]);
    const kernels = { ...TRIED, trial: 'idle' } as const;
    const options = { store: 'memory', kernels, expertBudget: { percent: 75 }, hostCacheBytes: 0 } as const;
    const loading = engine.load({ kind: 'file', file, name: 'test.gguf' }, options);
    const settled = engine.setExpertBudget({ percent: 50 });
    await loading;
    isChanging = true;
    const { pipelines } = watched;
    // Longer than what idle work waits for.
    await new Promise((resolve) => setTimeout(resolve, 800));
    const begun = watched.pipelines - pipelines;
    change();
    expect(await settled).toMatchObject({ slotsPerLayer: 8 });
    expect(begun).toBe(0);
    await written;
    expect(watched.pipelines).toBeGreaterThan(pipelines);
    expect(kept).toHaveLength(1);
    const events: string[] = [];
    for await (const { type } of engine.generate({ tokenIds: PROMPT, maxTokens: 1, ignoreEos: true }))
      events.push(type);
    expect(events).toEqual(['prefill', 'token', 'done']);
  });

  it('that cannot be read back or kept is told of, and stops nothing', async () => {
    const store = createMemoryStore();
    const refuse = async (name: string): Promise<void> => {
      if (name.startsWith('kernel-trial/')) throw new EngineError('STORAGE', 'the disk is gone');
    };
    const refusing: ModelStore = {
      ...store,
      readState: (id, name) => refuse(name).then(() => store.readState(id, name)),
      writeState: (id, name, value) => refuse(name).then(() => store.writeState(id, name, value)),
    };
    const engine = createLocalEngine({ gpu: sharedGpu, openStore: async () => refusing });
    engines.push(engine);
    const file = new Blob([await readGoldenModel('e16k4-q4_0')]);
    const warnings: string[] = [];
    const loaded = await engine.load({ kind: 'file', file, name: 'test.gguf' }, { kernels: TRIED }, (progress) => {
      if (progress.phase === 'warning') warnings.push(progress.message);
    });
    expect(loaded.variants.tuningFrom).toBe('trial');
    expect(warnings).toEqual([
      expect.stringContaining('could not be read: the disk is gone'),
      expect.stringContaining('could not be kept: the disk is gone'),
    ]);
  });

  it('refuses a form that gives other bits, says so, and leaves keys, values and passes as they were', async () => {
    const golden = await openGolden('e16k4-q4_0');
    const { runtime } = golden;
    const before = await computeLogits(golden, PROMPT);
    const [own] = listTrialCandidates(runtime, ['expertTiles']) as [Candidate];
    // Two lanes add up in another order than four.
    const variant = { ...own.variant, reduce: 'workgroup', workgroupSize: 2 } as const;
    const result = await runTrial(runtime, [{ ...own, value: 99, variant }, own]);
    expect(result?.warnings).toEqual([expect.stringContaining('expertTiles 99 gives other bits than 8 on')]);
    expect(result?.timings.map(({ value }) => value)).toEqual([8, own.value]);
    expect([8, own.value]).toContain(result?.tuning.expertTiles);
    // A position behind those of the trial's own pass still sees what was cached before it.
    const next = {
      tokenIds: [7],
      position: PROMPT.length,
      logitRows: 1,
      sampling: null,
      readLogits: true,
      isChunk: false,
    };
    const whole = { segmentLayers: Number.POSITIVE_INFINITY, runAhead: 0, getExpected: () => [] };
    const { logits } = await golden.runner.run(next, whole);
    await computeLogits(golden, PROMPT);
    const { logits: expected } = await golden.runner.run(next, whole);
    expect(logits).toEqual(expected);
    expect(await computeLogits(golden, PROMPT)).toEqual(before);
    runtime.destroy();
  });

  it('ends at once when it is aborted, with nothing chosen', async () => {
    const { runtime } = await openGolden('e16k4-q4_0');
    expect(await runTrial(runtime, listTrialCandidates(runtime, TUNING_SETTINGS), AbortSignal.abort())).toBeNull();
    runtime.destroy();
  });
});
