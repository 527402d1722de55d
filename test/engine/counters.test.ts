/**
 * What a token costs, counted from outside the engine: submits, read-backs and live bytes at the WebGPU interface, paging
 * against an eviction by use rates that is written here, naively, and fed with the routes of an engine where everything is
 * resident.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { GenerateStats } from '../../src/engine/engine';
import { createLocalEngine } from '../../src/engine/local-engine';
import { loadGolden } from '../golden';
import { catchError, generate, loadModel, openSession, type Session } from './engine-session';
import { type GoldenRuntime, openGolden, readRoutes } from './golden-runtime';
import { watchGpu } from './watched-gpu';

/** Demand paging alone: prediction and run-ahead have counters and tests of their own. */
const DEMAND_ONLY = { predictor: 'none', runAhead: false } as const;
/**
 * One pass and one submission per token: passes over guessed tokens are counted by test/engine/drafting-passes.test.ts, tokens one
 * behind the other by test/engine/token-runs.test.ts.
 */
const oneByOne = { draft: { kind: 'off' }, tokensPerSubmit: 1 } as const;

let session: Session | undefined;
let oracle: GoldenRuntime | undefined;
afterEach(async () => {
  await session?.engine.unload();
  session = undefined;
  oracle?.runtime.destroy();
  oracle = undefined;
});

describe('with everything resident', () => {
  it('a decoded token is one submit, one read-back and every layer once', async () => {
    const watched = watchGpu();
    session = await openSession('e16k4-q4_0', {}, { gpu: watched.gpu });
    const { engine, loaded } = session;
    const counts: { submits: number; readbacks: number }[] = [];
    let stats: GenerateStats | undefined;
    for await (const event of engine.generate({ tokenIds: [5, 9, 30], maxTokens: 12, ignoreEos: true, ...oneByOne })) {
      if (event.type === 'token') counts.push({ submits: watched.submits, readbacks: watched.readbacks });
      if (event.type === 'done') stats = event.result.stats;
    }
    const steps = counts.slice(1).map((count, i) => ({
      submits: count.submits - (counts[i]?.submits as number),
      readbacks: count.readbacks - (counts[i]?.readbacks as number),
    }));
    expect(steps).toHaveLength(11);
    for (const step of steps) expect(step).toEqual({ submits: 1, readbacks: 1 });
    expect(stats).toMatchObject({
      generatedTokens: 12,
      submits: 11,
      roundTrips: 11,
      layersExecuted: 11 * loaded.layers,
      faultingLayers: 0,
      hitRate: 1,
      uploadBytes: { demand: 0, useful: 0, wasted: 0 },
    });
  });

  it('a token makes no buffer, bind group or pipeline, and has at most eight dispatches a layer', async () => {
    const watched = watchGpu();
    session = await openSession('e16k4-q4_0', {}, { gpu: watched.gpu });
    const { engine, loaded } = session;
    const request = { tokenIds: [5, 9, 30], maxTokens: 6, ignoreEos: true, ...oneByOne };
    await generate(engine, request);
    const made = countMade(watched.devices[0] as GPUDevice);
    const counts: ReturnType<typeof countMade>[] = [];
    for await (const event of engine.generate(request)) if (event.type === 'token') counts.push({ ...made });
    expect(counts).toHaveLength(6);
    const [first] = counts as [ReturnType<typeof countMade>];
    for (const [i, count] of counts.entries()) {
      expect(count).toMatchObject({ buffers: first.buffers, bindGroups: first.bindGroups, pipelines: 0 });
      // Beside the layers: the embedding, the head and the sampler.
      expect(count.dispatches - first.dispatches).toBeLessThanOrEqual(i * (8 * loaded.layers + 3));
    }
    expect((counts.at(-1) as typeof first).dispatches).toBeGreaterThan(first.dispatches);
  });

  it('the last token is not waited for twice: one token needs no decode pass', async () => {
    session = await openSession('e1k1-f32');
    const { result } = await generate(session.engine, { tokenIds: [1], maxTokens: 1, ignoreEos: true });
    expect(result.stats).toMatchObject({ submits: 0, roundTrips: 0, layersExecuted: 0, hitRate: 1 });
  });
});

describe('per decoded token', () => {
  it('no more layers run than there are, plus one per fault', async () => {
    const { prompts } = await loadGolden('e16k4-q8_0');
    session = await openSession('e16k4-q8_0', { expertBudget: { percent: 25 } });
    const { engine, loaded } = session;
    const prompt = prompts[2]?.tokenIds ?? [];
    let faults = 0;
    // Of two tokens one is decoded: the stats are those of that one.
    for (let length = 1; length <= 24; length++) {
      const { result } = await generate(engine, {
        tokenIds: prompt.slice(0, length),
        maxTokens: 2,
        ignoreEos: true,
        paging: DEMAND_ONLY,
        ...oneByOne,
      });
      const { layersExecuted, faultingLayers, roundTrips, submits } = result.stats;
      expect(layersExecuted).toBeGreaterThanOrEqual(loaded.layers);
      expect(layersExecuted).toBeLessThanOrEqual(loaded.layers + faultingLayers);
      expect(roundTrips).toBe(1 + faultingLayers);
      expect(submits).toBe(1 + faultingLayers);
      faults += faultingLayers;
    }
    expect(faults).toBeGreaterThan(0);
  });
});

describe.each([
  ['e5k1-gqa-q4_0', 1],
  ['e5k1-gqa-q4_0', 3],
  ['e16k4-f32', 4],
  ['e16k4-f32', 9],
])('%s with %d slots per layer', (name, slots) => {
  it('faults, hits and uploads as eviction by two decayed use rates over the same routes does', async () => {
    oracle = await openGolden(name);
    const { config, pageLayouts } = oracle.runtime.manifest;
    const { experts, expertsPerToken } = config.moe;
    session = await openSession(name, { expertBudget: { percent: (slots / experts) * 100 } });
    const { engine, loaded } = session;
    expect(loaded.slotsPerLayer).toBe(slots);

    const { result, tokens } = await generate(engine, {
      // One token: no prefill wave can change the order of use.
      tokenIds: [42],
      maxTokens: 40,
      ignoreEos: true,
      paging: DEMAND_ONLY,
      ...oneByOne,
    });
    // The last token is never run.
    const run = [42, ...result.tokenIds.slice(0, -1)];
    const routes = await readRoutes(oracle, run);

    let needed = 0;
    let present = 0;
    let faultingLayers = 0;
    let demandBytes = 0;
    const hitRates: number[] = [];
    // Slots are filled with the first experts at load.
    const caches = pageLayouts.map(() => ({
      residents: Array.from({ length: slots }, (_, expert) => expert),
      uses: [] as number[],
    }));
    for (const row of run.keys()) {
      for (const [layer, { residents, uses }] of caches.entries()) {
        const start = (layer * run.length + row) * expertsPerToken;
        const chosen = [...routes.subarray(start, start + expertsPerToken)];
        const missing = chosen.filter((expert) => !residents.includes(expert));
        uses.push(...chosen);
        for (const expert of missing) {
          const candidates = residents.filter((resident) => !chosen.includes(resident)).sort((x, y) => x - y);
          const rates = candidates.map((candidate) => getUseRate(uses, candidate, expertsPerToken));
          const victim = candidates[rates.indexOf(Math.min(...rates))] as number;
          residents.splice(residents.indexOf(victim), 1, expert);
        }
        // The first row is prefill.
        if (row === 0) continue;
        needed += chosen.length;
        present += chosen.length - missing.length;
        if (missing.length > 0) faultingLayers++;
        demandBytes += missing.length * (pageLayouts[layer]?.pageBytes as number);
      }
      if (row > 0) hitRates.push(present / needed);
    }
    expect(faultingLayers).toBeGreaterThan(0);
    expect(result.stats.faultingLayers).toBe(faultingLayers);
    expect(result.stats.hitRate).toBe(present / needed);
    expect(result.stats.uploadBytes).toMatchObject({ demand: demandBytes });
    expect(tokens.slice(1).map(({ hitRate }) => hitRate)).toEqual(hitRates);
    expect(tokens.at(-1)?.residentShare).toBeCloseTo(slots / experts, 12);
  });
});

describe('GPU memory', () => {
  it('in use is what was planned, and nothing is left after unload', async () => {
    const watched = watchGpu();
    session = await openSession('e60k8-q4_0', { expertBudget: { percent: 20 } }, { gpu: watched.gpu });
    const { engine, loaded } = session;
    expect(watched.liveBytes).toBe(loaded.plannedGpuBytes);
    const { prompts } = await loadGolden('e60k8-q4_0');
    const { result } = await generate(engine, { tokenIds: prompts[2]?.tokenIds ?? [], maxTokens: 3, ignoreEos: true });
    expect(result.stats).toMatchObject({
      plannedGpuBytes: loaded.plannedGpuBytes,
      peakGpuBytes: loaded.plannedGpuBytes,
      slotsPerLayer: 12,
    });
    expect(watched.peakBytes).toBe(loaded.plannedGpuBytes);
    await engine.unload();
    expect(watched.liveBytes).toBe(0);
  });

  it('stays within a total budget, and one below the floor is refused with the floor, which then works', async () => {
    const watched = watchGpu();
    const engine = createLocalEngine({ gpu: watched.gpu });
    const { error } = await catchError(loadModel(engine, 'e5k1-gqa-q8_0', { gpuBudgetBytes: 1000 }));
    expect(error).toMatchObject({ name: 'EngineError', code: 'BUDGET_TOO_SMALL' });
    expect(watched.liveBytes).toBe(0);
    const floorBytes = Number(/floor is (\d+) bytes/.exec((error as Error).message)?.[1]);
    const below = await catchError(loadModel(engine, 'e5k1-gqa-q8_0', { gpuBudgetBytes: floorBytes - 1 }));
    expect(below.error).toMatchObject({ code: 'BUDGET_TOO_SMALL' });
    const loaded = await loadModel(engine, 'e5k1-gqa-q8_0', { gpuBudgetBytes: floorBytes });
    session = { engine, loaded };
    expect(loaded.slotsPerLayer).toBe(loaded.expertsPerToken);
    expect(loaded.plannedGpuBytes).toBeLessThanOrEqual(floorBytes);
    expect(watched.peakBytes).toBeLessThanOrEqual(floorBytes);
    const { result } = await generate(engine, { tokenIds: [1, 2, 3], maxTokens: 4, ignoreEos: true });
    expect(result.tokenIds).toHaveLength(4);
  });

  it('is all free again after a load that replaces a model', async () => {
    const watched = watchGpu();
    session = await openSession('e1k1-f32', {}, { gpu: watched.gpu });
    const loaded = await loadModel(session.engine, 'e5k1-gqa-q4_0');
    expect(watched.liveBytes).toBe(loaded.plannedGpuBytes);
    expect(watched.devices).toHaveLength(2);
  });
});

/** Share of the uses that were the expert's, half-weights 16 and 256 tokens, summed use by use. */
function getUseRate(uses: readonly number[], expert: number, usesPerToken: number): number {
  return [16, 256].reduce((rate, halfWeightTokens) => {
    const fade = 2 ** (-1 / (halfWeightTokens * usesPerToken));
    const weight = uses.reduce((sum, used, at) => sum + (used === expert ? fade ** (uses.length - 1 - at) : 0), 0);
    return rate + weight * (1 - fade);
  }, 0);
}

/** What is made on a device from here on, and what its passes dispatch. */
function countMade(device: GPUDevice): { buffers: number; bindGroups: number; pipelines: number; dispatches: number } {
  const made = { buffers: 0, bindGroups: 0, pipelines: 0, dispatches: 0 };
  const { createBuffer, createBindGroup, createComputePipelineAsync, createCommandEncoder } = device;
  device.createBuffer = (descriptor) => {
    made.buffers++;
    return createBuffer(descriptor);
  };
  device.createBindGroup = (descriptor) => {
    made.bindGroups++;
    return createBindGroup(descriptor);
  };
  device.createComputePipelineAsync = (descriptor) => {
    made.pipelines++;
    return createComputePipelineAsync(descriptor);
  };
  device.createCommandEncoder = (descriptor) => {
    const encoder = createCommandEncoder(descriptor);
    const beginComputePass = encoder.beginComputePass.bind(encoder);
    encoder.beginComputePass = (own) => {
      const pass = beginComputePass(own);
      const dispatchWorkgroups = pass.dispatchWorkgroups.bind(pass);
      pass.dispatchWorkgroups = (...counts) => {
        made.dispatches++;
        return dispatchWorkgroups(...counts);
      };
      return pass;
    };
    return encoder;
  };
  return made;
}
