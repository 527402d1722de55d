import { beforeAll, describe, expect, it } from 'vitest';
import type { ModelManifest } from '../../../src/checkpoint/manifest';
import { type MemoryPlan, type MemoryRequest, planMemory } from '../../../src/engine/memory-plan';
import { EngineError } from '../../../src/errors';
import { roundUp } from '../../../src/gpu/memory';
import { createRandom } from '../random';
import { buildGoldenManifest, buildTestManifest } from '../test-manifest';

const LIMITS = { bindingBytes: 128 << 20 };
const cases = process.env.WEBMOE_FULL ? 2000 : 100;

let manifest: ModelManifest; // 60 experts, 8 per token
let slotBytes = 0;
beforeAll(async () => {
  manifest = await buildGoldenManifest('e60k8-q4_0');
  slotBytes = getSlotBytes(manifest);
});

/** Bytes of one slot in every layer. */
function getSlotBytes({ pageLayouts }: ModelManifest): number {
  return pageLayouts.reduce((sum, page) => sum + page.pageBytes, 0);
}

function listRequests({ requests }: MemoryPlan) {
  return [
    ...requests.weights,
    ...requests.state,
    requests.pageTable,
    ...requests.uniforms,
    ...requests.staging,
    ...requests.slots,
  ];
}

function getError(request: MemoryRequest, of: ModelManifest = manifest, limits = LIMITS): EngineError {
  try {
    planMemory(of, limits, request);
  } catch (error) {
    if (error instanceof EngineError) return error;
    throw error;
  }
  throw new Error(`${JSON.stringify(request)} was planned`);
}

describe('the type of the KV cache', () => {
  it('makes the plan smaller by what the cache shrinks, and leaves it to the experts of a whole budget', () => {
    const [f32, f16, q8] = (['f32', 'f16', 'q8'] as const).map((kvType) =>
      planMemory(manifest, LIMITS, { kvType }),
    ) as [MemoryPlan, MemoryPlan, MemoryPlan];
    const { kvHeads, headDim } = manifest.config.attention;
    const values = 2 * manifest.config.layers * manifest.config.contextLength * kvHeads * headDim;
    expect(planMemory(manifest, LIMITS)).toEqual(f32);
    expect(f32.totalBytes - f16.totalBytes).toBe(values * 2);
    expect(f32.totalBytes - q8.totalBytes).toBe((values * 23) / 8);
    const gpuBudgetBytes = Math.floor((f32.fixedBytes + f32.totalBytes) / 2);
    const slots = (['f32', 'q8'] as const).map((kvType) => planMemory(manifest, LIMITS, { kvType, gpuBudgetBytes }));
    expect(slots[1]?.slotsPerLayer).toBeGreaterThan(slots[0]?.slotsPerLayer as number);
  });

  it('is refused when there is no such type', () => {
    expect(getError({ kvType: 'q4' as 'q8' })).toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('give one of f32, f16, q8'),
    });
  });
});

describe('the expert budget', () => {
  it('is every expert by default', () => {
    const plan = planMemory(manifest, LIMITS);
    expect(plan.slotsPerLayer).toBe(60);
    expect(plan.warning).toBeNull();
  });

  it.each([
    [100, 60],
    [50, 30],
    [25, 15],
    [26, 16],
    [13.4, 9],
  ])('of %d % gives %d slots per layer', (percent, slots) => {
    expect(planMemory(manifest, LIMITS, { expertBudget: { percent } }).slotsPerLayer).toBe(slots);
  });

  it('in bytes gives the slots that fit into it, over all layers', () => {
    const plan = (bytes: number) => planMemory(manifest, LIMITS, { expertBudget: { bytes } }).slotsPerLayer;
    expect(plan(slotBytes * 20)).toBe(20);
    expect(plan(slotBytes * 20 - 1)).toBe(19);
    expect(plan(slotBytes * 1000)).toBe(60);
  });

  it('below the experts of one token is refused with the floor in bytes and percent', () => {
    for (const expertBudget of [{ percent: 11 }, { percent: 0 }, { bytes: slotBytes * 8 - 1 }, { bytes: 0 }]) {
      const { code, message } = getError({ expertBudget });
      expect(code).toBe('BUDGET_TOO_SMALL');
      expect(message).toContain(`${slotBytes * 8} bytes`);
      expect(message).toContain('12%');
    }
  });

  it('is accepted at the floor that the refusal names', () => {
    for (const expertBudget of [{ percent: 12 }, { bytes: slotBytes * 8 }]) {
      expect(planMemory(manifest, LIMITS, { expertBudget }).slotsPerLayer).toBeGreaterThanOrEqual(8);
    }
  });

  it.each([{ percent: Number.NaN }, { percent: -1 }, { percent: 101 }, { bytes: -5 }, { bytes: Infinity }])(
    '%o is out of range',
    (expertBudget) => {
      expect(getError({ expertBudget }).code).toBe('BAD_ARGUMENT');
    },
  );

  it('warns below twice the experts per token, not above', () => {
    const warn = (slots: number) =>
      planMemory(manifest, LIMITS, { expertBudget: { bytes: slotBytes * slots } }).warning;
    expect(warn(15)).toContain('15 slots');
    expect(warn(15)).toContain('16');
    expect(warn(16)).toBeNull();
  });

  it('does not warn where all experts are resident although they are fewer than twice the experts per token', async () => {
    const all = await buildGoldenManifest('e8k8-norm-clip-f32');
    expect(planMemory(all, LIMITS).warning).toBeNull();
  });
});

describe('the GPU budget', () => {
  it('is never exceeded, and used for slots as far as they go', () => {
    const { fixedBytes } = planMemory(manifest, LIMITS);
    for (const slots of [8, 9, 37, 60]) {
      for (const rest of [0, 1, slotBytes - 1]) {
        const gpuBudgetBytes = fixedBytes + slots * slotBytes + rest;
        const plan = planMemory(manifest, LIMITS, { gpuBudgetBytes });
        expect(plan.slotsPerLayer).toBe(slots);
        expect(plan.totalBytes).toBeLessThanOrEqual(gpuBudgetBytes);
      }
    }
  });

  it('below the floor is refused with the floor, which is then accepted', () => {
    const { fixedBytes } = planMemory(manifest, LIMITS);
    const floorBytes = fixedBytes + 8 * slotBytes;
    for (const gpuBudgetBytes of [floorBytes - 1, 0, -1, Number.NaN]) {
      const { code, message } = getError({ gpuBudgetBytes });
      expect(code).toBe('BUDGET_TOO_SMALL');
      expect(message).toContain(`${floorBytes} bytes`);
    }
    expect(planMemory(manifest, LIMITS, { gpuBudgetBytes: floorBytes }).slotsPerLayer).toBe(8);
  });

  it('and the expert budget both bound the slots', () => {
    const { fixedBytes } = planMemory(manifest, LIMITS);
    const plan = (gpuSlots: number, percent: number) =>
      planMemory(manifest, LIMITS, {
        gpuBudgetBytes: fixedBytes + gpuSlots * slotBytes,
        expertBudget: { percent },
      }).slotsPerLayer;
    expect(plan(20, 50)).toBe(20);
    expect(plan(40, 50)).toBe(30);
  });

  it('leaves more slots with a shorter context', () => {
    const gpuBudgetBytes = planMemory(manifest, LIMITS).fixedBytes + 10 * slotBytes;
    const short = planMemory(manifest, LIMITS, { gpuBudgetBytes, contextLength: 16 });
    expect(short.slotsPerLayer).toBeGreaterThan(10);
  });
});

describe('staging buffers', () => {
  const pageBytes = () => Math.max(...manifest.pageLayouts.map((page) => page.pageBytes));

  it('are of a page each, counted beside the slots, and none where every page has a slot', () => {
    const plan = (percent: number, stagingPages?: number) =>
      planMemory(manifest, LIMITS, { expertBudget: { percent }, stagingPages });
    expect(plan(50, 4).requests.staging.map(({ kind, sizeBytes }) => [kind, sizeBytes])).toEqual(
      Array(4).fill(['staging', pageBytes()]),
    );
    expect(plan(50, 4).slotsPerLayer).toBe(30);
    expect(plan(50, 4).totalBytes - plan(50).totalBytes).toBe(4 * roundUp(pageBytes()));
    expect(plan(50).requests.staging).toEqual([]);
    expect(plan(100, 4)).toEqual(plan(100));
  });

  it('take their bytes from the slots of a GPU budget, but none that a token needs', () => {
    const { fixedBytes } = planMemory(manifest, LIMITS);
    const plan = (bytes: number) =>
      planMemory(manifest, LIMITS, { gpuBudgetBytes: fixedBytes + bytes, stagingPages: 4 });
    const stagingBytes = 4 * roundUp(pageBytes());
    expect(plan(20 * slotBytes)).toMatchObject({ fixedBytes: fixedBytes + stagingBytes });
    expect(plan(20 * slotBytes).slotsPerLayer).toBe(Math.floor((20 * slotBytes - stagingBytes) / slotBytes));
    expect(plan(8 * slotBytes + stagingBytes).requests.staging).toHaveLength(4);
    const least = plan(8 * slotBytes + stagingBytes - 1);
    expect(least.slotsPerLayer).toBeGreaterThanOrEqual(8);
    expect(least.requests.staging).toEqual([]);
    // Every page has a slot, and keeps it.
    expect(plan(60 * slotBytes)).toMatchObject({ slotsPerLayer: 60, fixedBytes });
  });
});

describe('the context', () => {
  it.each([2, 17, 128])('of %d tokens is planned', (contextLength) => {
    expect(planMemory(manifest, LIMITS, { contextLength }).state.contextLength).toBe(contextLength);
  });

  it.each([0, 1, 129, 64.5, Number.NaN, -3, Infinity])('of %d tokens is out of range', (contextLength) => {
    const { code, message } = getError({ contextLength });
    expect(code).toBe('BAD_ARGUMENT');
    expect(message).toContain(String(contextLength));
    expect(message).toContain('128');
  });
});

describe('the binding limit', () => {
  it('splits the embedding and the slots, and changes no total of the slots', async () => {
    const wide = await buildTestManifest({ vocabSize: 600, experts: 9 });
    const [whole, split] = [LIMITS.bindingBytes, 40_000].map((bindingBytes) =>
      planMemory(wide, { bindingBytes }, { contextLength: 8 }),
    );
    expect(whole?.weights.embedding).toHaveLength(1);
    expect(split?.weights.embedding.length).toBeGreaterThan(1);
    expect(whole?.requests.slots).toHaveLength(2);
    expect(split?.requests.slots.length).toBeGreaterThan(2);
    const sum = (plan: MemoryPlan | undefined) =>
      plan?.requests.slots.reduce((total, { sizeBytes }) => total + sizeBytes, 0);
    expect(sum(split)).toBe(sum(whole));
  });

  it('smaller than a page is refused as unsupported, with both sizes', () => {
    const { code, message } = getError({}, manifest, { bindingBytes: 4096 });
    expect(code).toBe('UNSUPPORTED');
    expect(message).toContain('4096');
    expect(message).toContain(String(manifest.pageLayouts[0]?.pageBytes));
  });

  it('smaller than the cache of the context asks for a shorter one', async () => {
    const narrow = await buildTestManifest();
    const most = Math.max(...planMemory(narrow, LIMITS).requests.state.map(({ sizeBytes }) => sizeBytes));
    const page = narrow.pageLayouts[0]?.pageBytes as number;
    // Only where the state is what does not fit.
    expect(most).toBeGreaterThan(page);
    const { code, message } = getError({}, narrow, { bindingBytes: most - 16 });
    expect(code).toBe('BAD_ARGUMENT');
    expect(message).toContain('shorter context');
  });
});

describe('over random models and requests', () => {
  it('a plan is exact, within its budget and within the binding limit, or a coded refusal', async () => {
    const random = createRandom(20);
    let planned = 0;
    for (let i = 0; i < cases; i++) {
      const kvHeads = random.integer(1, 3);
      const headDim = 8 * random.integer(1, 4);
      const model = await buildTestManifest({
        hiddenSize: 32 * random.integer(1, 4),
        // Both projections' widths are columns of the output projection: multiples of 32.
        heads: kvHeads * random.pick([4, 8]),
        kvHeads,
        headDim,
        experts: random.integer(2, 20),
        expertWidth: 32 * random.integer(1, 3),
        layers: random.integer(1, 3),
        vocabSize: random.integer(2, 400),
      });
      const full = planMemory(model, LIMITS);
      const request: MemoryRequest = {
        expertBudget: random.pick([
          undefined,
          { percent: random.integer(0, 100) },
          { bytes: random.integer(0, 2 * full.totalBytes) },
        ]),
        gpuBudgetBytes: random.pick([undefined, random.integer(1, 2 * full.totalBytes)]),
        contextLength: random.pick([undefined, random.integer(2, 64)]),
        stagingPages: random.pick([undefined, 4]),
      };
      const bindingBytes = random.pick([LIMITS.bindingBytes, random.integer(1000, full.totalBytes)]);
      let plan: MemoryPlan;
      try {
        plan = planMemory(model, { bindingBytes }, request);
      } catch (error) {
        expect(error).toBeInstanceOf(EngineError);
        expect(['BUDGET_TOO_SMALL', 'BAD_ARGUMENT', 'UNSUPPORTED']).toContain((error as EngineError).code);
        continue;
      }
      planned++;
      const { experts, expertsPerToken } = model.config.moe;
      expect(plan.slotsPerLayer).toBeGreaterThanOrEqual(expertsPerToken);
      expect(plan.slotsPerLayer).toBeLessThanOrEqual(experts);
      const all = listRequests(plan);
      expect(plan.totalBytes).toBe(all.reduce((sum, { sizeBytes }) => sum + roundUp(sizeBytes), 0));
      expect(plan.totalBytes).toBe(plan.fixedBytes + plan.slotsPerLayer * getSlotBytes(model));
      if (request.gpuBudgetBytes !== undefined) expect(plan.totalBytes).toBeLessThanOrEqual(request.gpuBudgetBytes);
      if (request.expertBudget && 'bytes' in request.expertBudget) {
        expect(plan.slotsPerLayer * getSlotBytes(model)).toBeLessThanOrEqual(request.expertBudget.bytes);
      }
      for (const { label, sizeBytes, kind } of all) {
        expect(sizeBytes, label).toBeGreaterThan(0);
        if (kind === 'storage') expect(sizeBytes, label).toBeLessThanOrEqual(bindingBytes);
      }
    }
    expect(planned).toBeGreaterThan(cases / 4);
  });
});
