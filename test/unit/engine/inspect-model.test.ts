/** Models read from their headers alone: what is said of them is what loading them gives. */
import { describe, expect, it } from 'vitest';
import { inspectModel } from '../../../src/engine/inspect-model';
import { planMemory } from '../../../src/engine/memory-plan';
import { getExpectedHitRate } from '../../../src/routing/expected-hit-rate';
import { readGoldenModel } from '../../golden';
import { buildGoldenManifest } from '../test-manifest';

const inspect = async (name: string) =>
  inspectModel({ kind: 'file', file: new Blob([await readGoldenModel(name)]), name: `${name}.gguf` });

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
    const fetch: typeof globalThis.fetch = async (_, init) => {
      const [, from, to] = /bytes=(\d+)-(\d+)/.exec(new Headers(init?.headers).get('range') ?? '') ?? [];
      const body = bytes.subarray(Number(from), Math.min(Number(to) + 1, bytes.byteLength));
      sent += body.byteLength;
      const range = `bytes ${from}-${Number(from) + body.byteLength - 1}/${bytes.byteLength}`;
      return new Response(body, { status: 206, headers: { 'content-range': range, etag: '"1"' } });
    };
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
