import { describe, expect, it } from 'vitest';
import type { ModelManifest } from '../../../src/checkpoint/manifest';
import { getWeightRequests, listMatrices, planWeights, type WeightPlan } from '../../../src/model/weights';
import { goldenModels } from '../../golden';
import { createRandom } from '../random';
import { buildGoldenManifest, buildTestManifest } from '../test-manifest';

const NO_LIMIT = 1 << 30;

/** Every row of every resident tensor is in exactly one buffer. */
function expectEveryRowOnce(manifest: ModelManifest, plan: WeightPlan): void {
  const seen = new Map(manifest.resident.map(({ key, matrix }) => [key, new Uint8Array(matrix.rows)]));
  for (const matrix of listMatrices(plan)) {
    expect(matrix.rows).toBe(matrix.sources.reduce((sum, { rows }) => sum + rows, 0));
    for (const { tensor, firstRow, rows } of matrix.sources) {
      expect(tensor.matrix.type).toBe(matrix.type);
      if (tensor.matrix.rows > 1) expect(tensor.matrix.cols).toBe(matrix.cols);
      const counts = seen.get(tensor.key) as Uint8Array;
      for (let row = firstRow; row < firstRow + rows; row++) counts[row] = (counts[row] as number) + 1;
    }
  }
  for (const [key, counts] of seen) expect([...new Set(counts)], key).toEqual([1]);
}

describe('planWeights', () => {
  it.each(goldenModels.map(({ name }) => name))('puts every row of %s into exactly one buffer', async (name) => {
    const manifest = await buildGoldenManifest(name);
    expectEveryRowOnce(manifest, planWeights(manifest, NO_LIMIT));
  });

  it('joins q, k and v where their types agree, ffn norm with router, q norm with k norm', async () => {
    const manifest = await buildTestManifest({ heads: 4, kvHeads: 2, headDim: 8, experts: 3 });
    const [layer] = planWeights(manifest, NO_LIMIT).layers;
    expect(layer?.qkv.map(({ rows }) => rows)).toEqual([(4 + 2 * 2) * 8]);
    expect(layer?.gate.rows).toBe(1 + 3);
    expect(layer?.qkNorms?.sources).toHaveLength(2);
  });

  it('reads a tied embedding as the head without a second buffer', async () => {
    const manifest = await buildGoldenManifest('e16k4-tied-q4_0');
    const plan = planWeights(manifest, NO_LIMIT);
    expect(plan.head).toBe(plan.embedding);
    expect(listMatrices(plan).filter(({ label }) => label === 'embedding')).toHaveLength(1);
  });

  it('splits a matrix larger than a binding into parts that lie one after another', async () => {
    const manifest = await buildTestManifest({ vocabSize: 100 });
    const { embedding } = planWeights(manifest, 16_384 - 1);
    expect(embedding.length).toBe(1);
    const split = planWeights(manifest, 9000);
    expect(split.embedding.length).toBeGreaterThan(1);
    let next = 0;
    for (const part of split.embedding) {
      expect(part.firstRow).toBe(next);
      expect(part.sizeBytes).toBeLessThanOrEqual(9000);
      next += part.rows;
    }
    expect(next).toBe(100);
    expectEveryRowOnce(manifest, split);
  });

  it('refuses what cannot be split, with its size and the limit', async () => {
    const manifest = await buildTestManifest();
    expect(() => planWeights(manifest, 3000)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringContaining('3000') }),
    );
  });

  it('covers every row once, in buffers within the limit, for random limits and types', async () => {
    const random = createRandom(3);
    let planned = 0;
    for (const { name } of goldenModels) {
      const manifest = await buildGoldenManifest(name);
      const most = Math.max(...getWeightRequests(planWeights(manifest, NO_LIMIT)).map(({ sizeBytes }) => sizeBytes));
      for (let i = 0; i < 10; i++) {
        const bindingBytes = random.integer(most >> 3, most);
        let plan: WeightPlan;
        try {
          plan = planWeights(manifest, bindingBytes);
        } catch (error) {
          expect(error).toMatchObject({ code: 'UNSUPPORTED' });
          continue;
        }
        planned++;
        expectEveryRowOnce(manifest, plan);
        for (const { label, sizeBytes } of getWeightRequests(plan)) {
          expect(sizeBytes, label).toBeLessThanOrEqual(bindingBytes);
        }
      }
    }
    expect(planned).toBeGreaterThan(30);
  });
});
