/**
 * A model of every weight type, all matrices of that type: transformers' logits on the weights that the gguf package
 * dequantises, and llama.cpp's favourite token wherever its lead decides, row by row and in tiles.
 * In npm test the type that most published files are made of; in test:full all.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { weightFormats } from '../../src/checkpoint/formats';
import { weightTypeLlamaCppGoldens } from '../golden';
import { loadWeightType, weightTypeNames } from '../golden/weight-types';
import { computeLogits, type GoldenRuntime, getRelativeDifference, openFile } from './golden-runtime';
import { expectSameTop1 } from './llama-cpp-top1';

const isFull = Boolean(import.meta.env.WEBMOE_FULL);
/** Largest difference of any logit, as a share of the largest logit. */
const TOLERANCE = 1e-4;

let open: GoldenRuntime | undefined;
afterEach(() => {
  open?.runtime.destroy();
  open = undefined;
});

const types = weightFormats.map(({ type }) => type).filter((type) => isFull || type === 'q4_k');

describe('a model of weight type', () => {
  it('is there for every type that is read', () => {
    expect([...weightTypeNames].sort()).toEqual(weightFormats.map(({ type }) => type).sort());
    expect(weightTypeLlamaCppGoldens.map(({ name }) => name)).toEqual(weightTypeNames);
  });

  it.each(types)('%s has the logits of transformers and the favourites of llama.cpp', async (name) => {
    const golden = weightTypeLlamaCppGoldens.find((candidate) => candidate.name === name);
    if (!golden) throw new Error(`${name} is not in llama-cpp.json: remake it`);
    const model = await loadWeightType(name);
    open = await openFile(model.gguf);
    let worst = 0;
    let decided = 0;
    for (const [i, { tokenIds, positions, logits: expected }] of model.prompts.entries()) {
      const logits = await computeLogits(open, tokenIds);
      for (const [row, position] of positions.entries()) {
        const difference = getRelativeDifference(logits[position] as Float32Array, expected[row] as Float32Array);
        worst = Math.max(worst, difference);
      }
      decided += expectSameTop1(golden, i, logits);
    }
    console.log(`${name}: ${worst.toExponential(1)} of the largest logit; llama.cpp decides ${decided} positions`);
    expect(worst).toBeLessThanOrEqual(TOLERANCE);
    expect(decided).toBeGreaterThan(0);
  });
});
