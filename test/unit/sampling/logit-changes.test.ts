import { describe, expect, it } from 'vitest';
import { encodeLogitChanges, LogitRules, resolveLogitOptions } from '../../../src/sampling/logit-changes';

const VOCAB = 100;

function createRules(options: Parameters<typeof resolveLogitOptions>[0], generated: readonly number[] = []) {
  const rules = new LogitRules(resolveLogitOptions(options, VOCAB));
  for (const id of generated) rules.count(id);
  return rules;
}

describe('LogitRules', () => {
  it('changes nothing without options, so that the plain path is taken', () => {
    expect(createRules({}, [1, 2, 2]).getChanges(null)).toBeNull();
    expect(createRules({ presencePenalty: 1 }).getChanges(null)).toBeNull();
    expect(createRules({ logitBias: { 4: 0 } }).getChanges(null)).toBeNull();
  });

  it('takes the frequency penalty per occurrence and the presence penalty once, on top of a bias', () => {
    const options = { frequencyPenalty: 0.5, presencePenalty: 0.25, logitBias: { 2: 10, 7: -100 } };
    const { deltas } = createRules(options, [1, 2, 2]).getChanges(null)!;
    expect(new Map(deltas)).toEqual(
      new Map([
        [2, 10 - 2 * 0.5 - 0.25],
        [7, -100],
        [1, -0.75],
      ]),
    );
  });

  it('leaves out ids that the mask forbids', () => {
    const mask = new Uint32Array(4).fill(0xffffffff);
    mask[2] = ~(1 << 3);
    const changes = createRules({ logitBias: { 67: 5, 68: 6 } }).getChanges(mask)!;
    expect(changes.deltas).toEqual([[68, 6]]);
    expect(changes.mask).toBe(mask);
  });
});

describe('encodeLogitChanges', () => {
  it('writes counts, then pairs of id and the bits of the delta', () => {
    const words = encodeLogitChanges({ deltas: [[5, -1.5]], mask: new Uint32Array(1) }, 4);
    expect([...words.slice(0, 3)]).toEqual([1, 1, 5]);
    expect(new Float32Array(words.buffer)[3]).toBe(-1.5);
  });
});

describe('resolveLogitOptions', () => {
  it.each([
    [{ frequencyPenalty: 2.1 }, /frequencyPenalty is 2.1.*-2 to 2/],
    [{ presencePenalty: Number.NaN }, /presencePenalty is NaN/],
    [{ logitBias: { 100: 1 } }, /token id 100.*0 to 99/],
    [{ logitBias: { x: 1 } as never }, /token id NaN/],
    [{ logitBias: { 3: 101 } }, /token 3 is 101.*-100 to 100/],
    [
      { logitBias: Object.fromEntries(Array.from({ length: 1025 }, (_, id) => [id, 1])) },
      /1025 token ids; give at most 1024/,
    ],
  ])('refuses %o', (options, message) => {
    expect(() => resolveLogitOptions(options, VOCAB)).toThrow(message);
  });
});
