import { describe, expect, it } from 'vitest';
import { getFigures } from '../../../demo/components/answer-stats';
import { scriptedResult } from '../worker/scripted-engine';

const live = { tokens: 3, tokensPerSecond: 7, residentShare: 0.5, hitRate: 0.5 };

function getSpeed(generatedTokens: number, decodeMs: number): string | undefined {
  const result = { ...scriptedResult, stats: { ...scriptedResult.stats, generatedTokens, decodeMs } };
  return getFigures({ live, result }).find(({ name }) => name === 'tokens/s')?.value;
}

describe('the figures of an answer', () => {
  it('have the speed of the tokens behind the first, which the prompt gave', () => {
    expect(getSpeed(11, 1000)).toBe('10.0');
    expect(getSpeed(2, 100)).toBe('10.0');
  });

  it('have no speed where there is nothing to measure', () => {
    expect(getSpeed(1, 5)).toBeUndefined();
    expect(getSpeed(0, 5)).toBeUndefined();
    expect(
      getFigures({ live: { ...live, tokensPerSecond: null }, result: null }).map(({ name }) => name),
    ).not.toContain('tokens/s');
  });

  it('are the live ones while the answer streams, and none before its first token', () => {
    expect(getFigures({ live, result: null })[0]).toMatchObject({ name: 'tokens/s', value: '7.0' });
    expect(getFigures({ live: null, result: null })).toEqual([]);
  });
});
