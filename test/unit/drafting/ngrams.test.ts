import { describe, expect, test } from 'vitest';
import { NgramTable } from '../../../src/drafting/ngram-table';
import { PromptLookup } from '../../../src/drafting/prompt-lookup';
import { getGumbelNoise } from '../../../src/sampling/gumbel';
import { createRandom } from '../random';

function lookUp(text: readonly number[], count: number): number[] {
  const lookup = new PromptLookup();
  for (const tokenId of text) lookup.push(tokenId);
  return lookup.draft(count);
}

describe('prompt look-up', () => {
  test('copies what followed the same three tokens', () => {
    expect(lookUp([1, 2, 3, 4, 5, 6, 9, 1, 2, 3], 3)).toEqual([4, 5, 6]);
    expect(lookUp([1, 2, 3, 4, 5, 6, 9, 1, 2, 3], 1)).toEqual([4]);
  });

  test('has nothing where fewer tokens agree, or none', () => {
    expect(lookUp([1, 2, 4, 9, 1, 2], 3)).toEqual([]);
    expect(lookUp([1, 2], 3)).toEqual([]);
    expect(lookUp([], 3)).toEqual([]);
  });

  test('prefers the longest match, and of equally long ones the latest', () => {
    // 8 1 2 3 -> 5 agrees in four tokens, the later 9 1 2 3 -> 6 in three.
    expect(lookUp([8, 1, 2, 3, 5, 9, 1, 2, 3, 6, 8, 1, 2, 3], 1)).toEqual([5]);
    expect(lookUp([7, 1, 2, 3, 5, 9, 1, 2, 3, 6, 8, 1, 2, 3], 1)).toEqual([6]);
  });

  test('goes on with its own copy where a text repeats itself', () => {
    expect(lookUp([1, 2, 3, 1, 2, 3], 7)).toEqual([1, 2, 3, 1, 2, 3, 1]);
  });

  test('agrees with a search through the whole text', () => {
    const random = createRandom(5);
    for (let round = 0; round < 200; round++) {
      const text = Array.from({ length: random.integer(0, 40) }, () => random.integer(0, 2));
      let best: { at: number; length: number } | undefined;
      for (let at = 3; at < text.length; at++) {
        let length = 0;
        while (length < Math.min(12, at) && text[at - 1 - length] === text[text.length - 1 - length]) length++;
        if (length >= 3 && length >= (best?.length ?? 0)) best = { at, length };
      }
      expect(lookUp(text, 1)).toEqual(best ? [text[best.at]] : []);
    }
  });
});

function draw(text: readonly number[], count: number, sampling = { temperature: 0, seed: 0 }): number[] {
  const table = new NgramTable(sampling);
  for (const tokenId of text) table.push(tokenId);
  return table.draft(count);
}

describe('the table of n-grams', () => {
  test('guesses the most frequent follower of the last two tokens, and goes on from there', () => {
    expect(draw([1, 2, 3, 9, 1, 2, 3, 9, 1, 2], 3)).toEqual([3, 9, 1]);
  });

  test('falls back to the last token alone where two tokens are new', () => {
    expect(draw([1, 5, 2, 5, 3, 5, 2, 5, 8, 2], 1)).toEqual([5]);
  });

  test('stops where nothing was seen twice, or nothing is likely', () => {
    expect(draw([1, 2, 3], 4)).toEqual([]);
    // 5 was followed by three different tokens, each once.
    expect(draw([5, 1, 5, 2, 5, 3, 5], 4)).toEqual([]);
  });

  test('draws with the noise of the sampler: a uniform choice of two is the one with the larger noise', () => {
    const text = [4, 1, 4, 2, 4, 1, 4, 2, 9, 4];
    const seen = new Set<number>();
    for (let seed = 0; seed < 40; seed++) {
      const [one, two] = [1, 2].map((id) => getGumbelNoise(seed, text.length, id)) as [number, number];
      const [guess] = draw(text, 1, { temperature: 0.8, seed });
      expect(guess).toBe(one > two ? 1 : 2);
      seen.add(guess as number);
    }
    expect(seen.size).toBe(2);
  });
});
