/**
 * The engine's favourite token against llama.cpp's on the same files, wherever the lead is larger than both may be off.
 * llama.cpp rounds activations to the weights' precision: ../oracle/README.md has how far that takes it from transformers.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { WeightType } from '../../src/checkpoint/model-config';
import { goldenModels, llamaCppGoldens } from '../golden';
import { computeLogits, type GoldenRuntime, openGolden } from './golden-runtime';
import { expectSameTop1 } from './llama-cpp-top1';

/** Share of the positions that must be decided; 8-bit and bf16 activations leave few, or none. */
const DECIDED: Partial<Record<WeightType, number>> = { f32: 0.9, f16: 0.9, bf16: 0 };

let open: GoldenRuntime | undefined;
afterEach(() => {
  open?.runtime.destroy();
  open = undefined;
});

describe.each(llamaCppGoldens.map((golden) => [golden.name, golden] as const))('%s', (name, golden) => {
  it('has the same most likely token as llama.cpp wherever its lead decides', async () => {
    const model = goldenModels.find((candidate) => candidate.name === name);
    if (!model) throw new Error(`${name} is in llama-cpp.json and not in catalogue.json`);
    open = await openGolden(name);
    let positions = 0;
    let decided = 0;
    for (const [i, { tokenIds }] of model.prompts.entries()) {
      positions += tokenIds.length;
      decided += expectSameTop1(golden, i, await computeLogits(open, tokenIds));
    }
    expect(decided).toBeGreaterThanOrEqual(positions * (DECIDED[model.format] ?? 0.01));
  });
});
