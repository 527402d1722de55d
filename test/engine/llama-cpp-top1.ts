/** Holds the engine's favourite tokens against llama.cpp's. Runs nothing. */
import { expect } from 'vitest';
import type { LlamaCppGolden } from '../golden';

/** Share of the largest logit that the engine may be off: docs/numerics.md. */
const OWN_TOLERANCE = 2e-3;

/**
 * Expects llama.cpp's token wherever its lead is larger than both may be off.
 * @param logits [positions][vocab] of a whole prompt.
 * @returns how many positions that decides.
 */
export function expectSameTop1(golden: LlamaCppGolden, prompt: number, logits: readonly Float32Array[]): number {
  const { top1 = [], margin = [] } = golden.prompts[prompt] ?? {};
  expect(logits).toHaveLength(top1.length);
  let decided = 0;
  for (const [position, row] of logits.entries()) {
    const largest = row.reduce((most, logit) => Math.max(most, Math.abs(logit)), 0);
    // Both candidates may be off, one up and one down.
    const tolerance = 2 * (golden.maxLogprobDifference + OWN_TOLERANCE * largest);
    if ((margin[position] as number) <= tolerance) continue;
    decided++;
    expect(row.indexOf(Math.max(...row)), `position ${position} of ${top1.length}`).toBe(top1[position]);
  }
  return decided;
}
