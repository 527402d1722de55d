import { beforeAll, describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../../src/checkpoint/model-config';
import { listRings, listRows, sumRanges } from '../../../src/model/cache-rows';
import { getStateRequests, getStateShape } from '../../../src/model/run-state';
import { buildGoldenManifest } from '../test-manifest';

const CONTEXT = 1000;
let config: ModelConfig;
beforeAll(async () => {
  ({ config } = await buildGoldenManifest('e16k4-q4_0'));
});

/** Layer 0 slides, layer 1 convolves. */
const withRings = (): ModelConfig => ({
  ...config,
  attention: { ...config.attention, window: 64 },
  convolution: { taps: 3, hasBias: false },
  mixers: config.mixers.map((mixer, layer) => (['sliding', 'convolution'] as const)[layer] ?? mixer),
});

describe('rows of the KV cache', () => {
  it.each(['f32', 'f16', 'q8'] as const)('of the whole context are the buffers, %s', (kvType) => {
    const shape = getStateShape(config, CONTEXT, kvType);
    const ranges = listRows(config, shape, 0, CONTEXT);
    const buffers = getStateRequests(config, shape).filter(({ label }) => / cache /.test(label));
    expect(sumRanges(ranges)).toBe(buffers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
    expect(ranges.every(({ offsetBytes, sizeBytes }) => offsetBytes % 4 === 0 && sizeBytes % 4 === 0)).toBe(true);
    const { kvHeads } = config.attention;
    expect(ranges).toHaveLength(config.layers * 2 * kvHeads);
    const part = listRows(config, shape, 10, 30);
    for (const [i, { offsetBytes, sizeBytes }] of part.entries()) {
      const whole = ranges[i]?.sizeBytes as number;
      expect(offsetBytes).toBe((i % kvHeads) * whole + (whole / CONTEXT) * 10);
      expect(sizeBytes).toBe((whole / CONTEXT) * 20);
    }
    expect(listRings(config, shape, CONTEXT)).toEqual([]);
  });

  it('of rings are what has been written of them, at most all', () => {
    const changed = withRings();
    const shape = getStateShape(changed, CONTEXT, 'f32');
    const rings = listRings(changed, shape, CONTEXT);
    const buffers = getStateRequests(changed, shape).filter(
      ({ label, sizeBytes }) => /^[kv] cache [01]$/.test(label) && sizeBytes > 4,
    );
    expect(sumRanges(rings)).toBe(buffers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
    expect(new Set(rings.map(({ layer }) => layer))).toEqual(new Set([0, 1]));
    expect(listRows(changed, shape, 0, CONTEXT).some(({ layer }) => layer < 2)).toBe(false);
    const few = listRings(changed, shape, 10);
    expect(few).toHaveLength(rings.length);
    expect(sumRanges(few)).toBeLessThan(sumRanges(rings) / 20);
    expect(listRings(changed, shape, 0)).toEqual([]);
  });

  it('are none of a layer that mixes nothing', () => {
    const changed: ModelConfig = {
      ...config,
      mixers: config.mixers.map((mixer, layer) => (layer === 1 ? 'none' : mixer)),
    };
    const shape = getStateShape(changed, CONTEXT, 'f32');
    const ranges = listRows(changed, shape, 0, CONTEXT);
    expect(ranges.length).toBeGreaterThan(0);
    expect(ranges.some(({ layer }) => layer === 1)).toBe(false);
    expect(listRings(changed, shape, CONTEXT)).toEqual([]);
  });
});
