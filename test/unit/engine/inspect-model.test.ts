/** Models read from their headers alone: what is said of them is what loading them gives. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { inspectModel, type MemoryPreviewRequest } from '../../../src/engine/inspect-model';
import { planMemory } from '../../../src/engine/memory-plan';
import { getExpectedHitRate } from '../../../src/routing/expected-hit-rate';
import { readGoldenModel } from '../../golden';
import { buildGoldenManifest } from '../test-manifest';

const LIMITS = { bindingBytes: 128 << 20 };
const inspect = async (name: string) =>
  inspectModel({ kind: 'file', file: new Blob([await readGoldenModel(name)]), name: `${name}.gguf` });

/** A server of a golden model's file, which answers ranges. */
async function serve(name: string, onSent: (body: Uint8Array) => void = () => {}): Promise<typeof globalThis.fetch> {
  const bytes = await readGoldenModel(name);
  return async (_, init) => {
    const [, from, to] = /bytes=(\d+)-(\d+)/.exec(new Headers(init?.headers).get('range') ?? '') ?? [];
    const body = bytes.subarray(Number(from), Math.min(Number(to) + 1, bytes.byteLength));
    onSent(body);
    const range = `bytes ${from}-${Number(from) + body.byteLength - 1}/${bytes.byteLength}`;
    return new Response(body, { status: 206, headers: { 'content-range': range, etag: '"1"' } });
  };
}

afterEach(() => vi.unstubAllGlobals());

describe('a model', () => {
  it('is described and planned as it would be loaded', async () => {
    const report = await inspect('e60k8-q4_0');
    const manifest = await buildGoldenManifest('e60k8-q4_0');
    expect(report).toMatchObject({
      modelId: manifest.modelId,
      architecture: 'olmoe',
      experts: 60,
      expertsPerToken: 8,
      expertTypes: ['q4_0'],
      moeLayers: manifest.config.moeLayers.length,
      sourceBytes: manifest.sourceBytes,
      warnings: [],
    });
    const expertBudget = { percent: 25 };
    const plan = planMemory(manifest, { bindingBytes: 128 << 20 }, { expertBudget });
    const preview = report.planMemory({ expertBudget });
    expect(preview).toMatchObject({ slotsPerLayer: 15, fixedBytes: plan.fixedBytes, totalBytes: plan.totalBytes });
    expect(preview.fixedBytes + preview.slotBytes).toBe(preview.totalBytes);
    expect(preview.warning).toMatch(/15 slots per layer are fewer than 16/);
  });

  it('names the smallest budget that runs: one byte less is refused', async () => {
    const report = await inspect('e60k8-q4_0');
    const { smallest } = report.planMemory();
    expect(smallest.percent).toBe(12);
    expect(report.planMemory({ gpuBudgetBytes: smallest.totalBytes }).slotsPerLayer).toBe(8);
    expect(() => report.planMemory({ gpuBudgetBytes: smallest.totalBytes - 1 })).toThrow(
      `${smallest.totalBytes} bytes`,
    );
    expect(() => report.planMemory({ expertBudget: { percent: smallest.percent - 1 } })).toThrow('12%');
  });

  it('is read from a server by its header alone', async () => {
    const bytes = await readGoldenModel('e16k4-f32');
    let sent = 0;
    const fetch = await serve('e16k4-f32', (body) => {
      sent += body.byteLength;
    });
    const report = await inspectModel({ kind: 'url', url: 'http://localhost/m.gguf' }, { fetch });
    expect(report.experts).toBe(16);
    expect(report.sourceBytes).toBe(bytes.byteLength);
    expect(sent).toBeLessThan(bytes.byteLength);
  });

  it('is refused for what loading it would be refused for', async () => {
    const file = new Blob(['no model at all, but a text that is long enough to be looked at']);
    await expect(inspectModel({ kind: 'file', file, name: 'x.gguf' })).rejects.toMatchObject({ code: 'BAD_FILE' });
  });
});

describe('the options of a load', () => {
  const GOLDEN = 'e60k8-q4_0';
  const expertBudget = { percent: 50 };
  const STAGING_PAGES = 4;
  const file = { kind: 'url', url: 'http://localhost/m.gguf' } as const;
  const everyLimit = { maxStorageBufferBindingSize: 128 << 20, maxBufferSize: 256 << 20 };
  const halves = { limits: everyLimit, features: new Set(['shader-f16']) };
  const plain = { limits: everyLimit, features: new Set<string>() };

  it('keys and values of type "auto" are planned as on the adapter', async () => {
    const report = await inspect(GOLDEN);
    const manifest = await buildGoldenManifest(GOLDEN);
    const bytesOf = (kvType: 'f32' | 'f16') => planMemory(manifest, LIMITS, { kvType }).totalBytes;
    const plan = (request: MemoryPreviewRequest) => report.planMemory({ kvType: 'auto', ...request }).totalBytes;
    expect(bytesOf('f16')).toBeLessThan(bytesOf('f32'));
    expect(plan({ adapter: halves })).toBe(bytesOf('f16'));
    for (const request of [{ adapter: plain }, { adapter: null }, {}, { adapter: halves, defaultLimitsOnly: true }])
      expect(plan(request)).toBe(bytesOf('f32'));
    const { smallest } = report.planMemory({ kvType: 'auto', adapter: halves });
    expect(report.planMemory({ kvType: 'f16', gpuBudgetBytes: smallest.totalBytes }).totalBytes).toBe(
      smallest.totalBytes,
    );
    expect(() => report.planMemory({ kvType: 'f8' as 'f16' })).toThrow('give one of f32, f16, q8, auto');
  });

  it('staging buffers are in the plan where the load makes them, and both plans are given where it tries', async () => {
    const report = await inspectModel(file, { fetch: await serve(GOLDEN) });
    const manifest = await buildGoldenManifest(GOLDEN);
    const plan = (stagingPages: number) => planMemory(manifest, LIMITS, { expertBudget, stagingPages }).totalBytes;
    const [unstaged, staged] = [plan(0), plan(STAGING_PAGES)];
    expect(staged - unstaged).toBe(STAGING_PAGES * report.pageBytes);
    const ask = (request: MemoryPreviewRequest) => {
      const { totalBytes, stagingBytes, fixedBytes, slotBytes, ifStaged } = report.planMemory({
        expertBudget,
        ...request,
      });
      expect(fixedBytes + slotBytes).toBe(totalBytes);
      expect(stagingBytes).toBe(totalBytes - unstaged);
      return [totalBytes, ifStaged?.totalBytes ?? null];
    };
    expect(ask({ store: 'opfs', staging: 'on' })).toEqual([staged, null]);
    expect(ask({ store: 'memory', staging: 'on' })).toEqual([staged, null]);
    expect(ask({ store: 'opfs' })).toEqual([unstaged, staged]);
    // Node has one store: what "auto" means is known.
    expect(ask({ store: 'auto', staging: 'on' })).toEqual([staged, null]);
    vi.stubGlobal('indexedDB', {});
    expect(ask({ store: 'auto', staging: 'on' })).toEqual([unstaged, staged]);
    for (const known of [
      { store: 'indexeddb', staging: 'on' },
      { store: 'memory' },
      { store: 'opfs', staging: 'off' },
      { store: 'opfs', staging: 'on', copy: false },
      {},
    ] as const)
      expect(ask(known), JSON.stringify(known)).toEqual([unstaged, null]);
    // Nothing is read on the way where every page has a slot.
    expect(report.planMemory({ store: 'opfs' }).ifStaged).toBeNull();
    expect(report.planMemory({ store: 'opfs', staging: 'on' }).stagingBytes).toBe(0);
    expect(() => report.planMemory({ staging: 'yes' as 'on' })).toThrow('give one of auto, on, off');
  });

  it('what an adapter binds is the smaller of its two limits', async () => {
    const report = await inspect(GOLDEN);
    const limits = { maxStorageBufferBindingSize: 1 << 30, maxBufferSize: report.pageBytes - 1 };
    expect(() => report.planMemory({ adapter: { ...plain, limits } })).toThrow(
      `this adapter binds at most ${report.pageBytes - 1}`,
    );
  });
});

describe('the expected hit rate', () => {
  it('grows with the budget, from nothing to everything, and is a range in between', () => {
    let before = { low: 0, high: 0 };
    for (let share = 0; share <= 1; share += 1 / 64) {
      const range = getExpectedHitRate(share);
      expect(range.low).toBeGreaterThanOrEqual(before.low);
      expect(range.high).toBeGreaterThanOrEqual(before.high);
      expect(range.low).toBeLessThanOrEqual(range.high);
      before = range;
    }
    expect(getExpectedHitRate(1)).toEqual({ low: 1, high: 1 });
    expect(getExpectedHitRate(0)).toEqual({ low: 0, high: 0 });
    // As published: Qwen3-30B-A3B at an eighth, DeepSeek-V2-Lite at 3 of 16.
    expect(getExpectedHitRate(1 / 8).high).toBeCloseTo(0.645);
    expect(getExpectedHitRate(3 / 16).low).toBeCloseTo(0.42);
  });
});
