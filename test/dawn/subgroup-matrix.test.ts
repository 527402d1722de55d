/**
 * A model's prompt by subgroup matrices, in `npm run test:full`, in Node over an adapter that has them: Chromium's software
 * adapter has none.
 */
import { expect, it, vi } from 'vitest';
import { explainNoMatrices, installDawn } from './lavapipe';

/** Lavapipe compiles a pipeline when it is first used; a model's take a minute, and on a busy machine some. */
vi.setConfig({ testTimeout: 600_000 });

/** Three tiles, the last of them not full. */
const PROMPT = Array.from({ length: 41 }, (_, i) => 3 + ((i * 37) % 200));

const isFull = Boolean(import.meta.env.WEBMOE_FULL);
const missing = isFull ? ((await installDawn()) ?? (await explainNoMatrices())) : null;
if (missing) console.warn(`SKIPPED: a prompt by subgroup matrices. ${missing}`);

it.runIf(isFull && !missing)(
  'gives a prompt the same bits with a part of the experts, near to those of plain tiles',
  async () => {
    const { computeLogits, getRelativeDifference, openGolden } = await import('../engine/golden-runtime');
    const read = async (options: Parameters<typeof openGolden>[1]) => {
      const golden = await openGolden('e16k4-q4_0', options);
      const logits = await computeLogits(golden, PROMPT);
      golden.runtime.destroy();
      return { name: golden.runtime.variant.name, logits };
    };
    const matrices = { subgroupMatrix: true, kernels: { subgroupMatrix: true } };
    const plain = await read({});
    const resident = await read(matrices);
    const paged = await read({ ...matrices, expertBudget: { percent: 50 } });
    expect(resident.name).toContain('-matrix-');
    expect(paged).toEqual(resident);
    const differences = resident.logits.map((row, i) => getRelativeDifference(row, plain.logits[i] as Float32Array));
    expect(Math.max(...differences)).toBeLessThan(5e-3);
    // The matrices did run: they round.
    expect(Math.min(...differences)).toBeGreaterThan(0);
  },
);
