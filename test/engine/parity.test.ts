/** The engine against transformers on tiny random models: docs/numerics.md has the tolerances. */
import { afterEach, describe, expect, it } from 'vitest';
import type { WeightType } from '../../src/checkpoint/model-config';
import { goldenModels, loadGolden } from '../golden';
import { computeLogits, type GoldenRuntime, getRelativeDifference, openGolden } from './golden-runtime';

/** Largest difference of any logit, as a share of the largest logit. */
const getTolerance = (format: WeightType): number => (format === 'f32' ? 1e-3 : 2e-3);

let open: GoldenRuntime | undefined;
afterEach(() => {
  open?.runtime.destroy();
  open = undefined;
});

describe.each(goldenModels.map(({ name }) => name))('%s', (name) => {
  it.each([
    ['at the smallest budget', true],
    ['with everything resident', false],
  ])('gives the logits of transformers %s', async (_, smallest) => {
    const golden = await loadGolden(name);
    const { experts, expertsPerToken } = golden.config.moe;
    const percent = smallest ? (expertsPerToken / experts) * 100 : 100;
    open = await openGolden(name, { expertBudget: { percent } });
    const { runtime } = open;
    const { attention, norm } = golden.config;
    expect(runtime.manifest.config).toEqual({
      ...golden.config,
      norm: { ...norm, epsilon: expect.closeTo(norm.epsilon, 9) },
      attention: { ...attention, scale: expect.closeTo(attention.scale, 12) },
    });

    for (const prompt of golden.prompts) {
      const logits = await computeLogits(open, prompt.tokenIds);
      for (const [i, position] of prompt.positions.entries()) {
        const difference = getRelativeDifference(logits[position] as Float32Array, prompt.logits[i] as Float32Array);
        expect(difference, `position ${position} of ${prompt.tokenIds.length}`).toBeLessThanOrEqual(
          getTolerance(golden.format),
        );
      }
    }
    if (percent < 100) expect(runtime.pager.counters.faultingLayers).toBeGreaterThan(0);
    else expect(runtime.pager.counters.faultingLayers).toBe(0);
    expect(runtime.memory.peakBytes).toBeLessThanOrEqual(runtime.plan.totalBytes);
    expect(runtime.memory.usedBytes).toBe(runtime.plan.totalBytes);
  });
});
