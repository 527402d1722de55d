import { describe, expect, it } from 'vitest';
import { type SavedPrefix, SavedPrefixes, type SavedRows } from '../../../src/engine/saved-prefixes';

const createRows = (from: number, to: number): SavedRows => ({ from, to, bytes: new Uint8Array((to - from) * 10) });
const createPrefix = (first: number, rows: readonly SavedRows[], ringBytes = 0): SavedPrefix => ({
  tokenIds: [first],
  end: 1,
  rows,
  rings: new Uint8Array(ringBytes),
});
const never = (): boolean => false;

describe('saved prefixes', () => {
  it('count rows that several share once, and rings by each', () => {
    const saved = new SavedPrefixes();
    const shared = createRows(0, 4);
    saved.add(createPrefix(1, [shared], 5), never);
    saved.add(createPrefix(2, [shared, createRows(4, 6)], 5), never);
    expect(saved.usedBytes).toBe(40 + 20 + 10);
  });

  it('lose the least recently used one, and those that a longer one covers', () => {
    const saved = new SavedPrefixes({ prefixCacheCount: 2 });
    const [a, b, c, d] = [1, 2, 3, 4].map((first) => createPrefix(first, [createRows(0, 1)])) as [
      SavedPrefix,
      SavedPrefix,
      SavedPrefix,
      SavedPrefix,
    ];
    saved.add(a, never);
    saved.add(b, never);
    saved.use(a);
    saved.add(c, never);
    expect(saved.list()).toEqual([a, c]);
    saved.add(d, (other) => other === c);
    expect(saved.list()).toEqual([a, d]);
    expect(saved.has(c)).toBe(false);
  });

  it('take no more bytes than they may, and nothing where they may take none', () => {
    const saved = new SavedPrefixes({ prefixCacheBytes: 100 });
    saved.add(createPrefix(1, [createRows(0, 6)]), never);
    saved.add(createPrefix(2, [createRows(0, 6)]), never);
    expect(saved.list().map(({ tokenIds }) => tokenIds)).toEqual([[2]]);
    expect([saved.hasRoomFor(100), saved.hasRoomFor(101)]).toEqual([true, false]);
    expect(new SavedPrefixes({ prefixCacheCount: 0 }).hasRoomFor(1)).toBe(false);
    for (const limit of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => new SavedPrefixes({ prefixCacheCount: limit })).toThrow(/prefixCacheCount .* out of range/);
  });
});
