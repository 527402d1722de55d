import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { EngineError } from '../../../src/errors';
import { HostCache } from '../../../src/experts/host-cache';

const PAGE_BYTES = 10;

/** A reader that notes what it is asked for; the reads whose number (from 1) is in `failing` reject. */
function createReader(failing: readonly number[] = []) {
  const keys: string[] = [];
  const read = async (key: string): Promise<Uint8Array> => {
    keys.push(key);
    const number = keys.length;
    await Promise.resolve();
    if (failing.includes(number)) throw new Error(`read ${number} failed`);
    return new Uint8Array(PAGE_BYTES).fill(key.charCodeAt(0));
  };
  /** Keys of the reads into given memory; keys in `refused` are read in the ordinary way only. */
  const intoKeys: string[] = [];
  const refused = new Set<string>();
  const readInto = async (key: string, target: Uint8Array): Promise<boolean> => {
    if (refused.has(key)) return false;
    intoKeys.push(key);
    target.fill(key.charCodeAt(0));
    return true;
  };
  const hastened: string[] = [];
  const reader = { read, readInto, has: () => true, hasten: (key: string) => void hastened.push(key) };
  return { keys, intoKeys, refused, hastened, reader };
}

describe('HostCache', () => {
  it('reads a page once and serves it from RAM after', async () => {
    const { keys, reader } = createReader();
    const cache = new HostCache(reader, 100);
    expect(cache.get('a')).toBeUndefined();
    const page = await cache.read('a');
    expect(await cache.read('a')).toBe(page);
    expect(cache.get('a')).toBe(page);
    expect(keys).toEqual(['a']);
    expect(cache.counters).toEqual({ hits: 2, reads: 1, readBytes: PAGE_BYTES });
    expect(cache.usedBytes).toBe(PAGE_BYTES);
  });

  it('shares one read between callers that overlap', async () => {
    const { keys, reader } = createReader();
    const cache = new HostCache(reader, 0);
    const [one, other] = await Promise.all([cache.read('a'), cache.read('a')]);
    expect(one).toBe(other);
    expect(keys).toEqual(['a']);
    expect(cache.counters).toMatchObject({ hits: 0, reads: 1 });
  });

  it('tells the reader when a page that was only expected is needed', async () => {
    const { keys, hastened, reader } = createReader();
    const cache = new HostCache(reader, 0);
    const expected = cache.read('a', 'expected');
    expect(hastened).toEqual([]);
    await Promise.all([expected, cache.read('a')]);
    expect(hastened).toEqual(['a']);
    expect(keys).toEqual(['a']);
  });

  it('does not try again what the network or the caller ended', async () => {
    for (const code of ['NETWORK', 'ABORTED'] as const) {
      let reads = 0;
      const read = async () => {
        reads++;
        throw new EngineError(code, 'no more');
      };
      await expect(new HostCache({ ...createReader().reader, read }, 0).read('a')).rejects.toMatchObject({
        code,
      });
      expect(reads).toBe(1);
    }
  });

  it('full, keeps what comes twice in the place of the least recently used, and never passes its budget', async () => {
    const { keys, reader } = createReader();
    const cache = new HostCache(reader, 2 * PAGE_BYTES + 5);
    await cache.read('a');
    await cache.read('b');
    cache.get('a');
    await cache.read('c');
    expect(['a', 'b', 'c'].filter((key) => cache.has(key))).toEqual(['a', 'b']);
    await cache.read('c');
    expect(cache.usedBytes).toBe(2 * PAGE_BYTES);
    expect(['a', 'b', 'c'].filter((key) => cache.get(key))).toEqual(['a', 'c']);
    expect(keys).toEqual(['a', 'b', 'c', 'c']);
  });

  it('full, remembers half as many of the pages that went by as it has', async () => {
    const { reader } = createReader();
    const cache = new HostCache(reader, 4 * PAGE_BYTES);
    for (const key of ['a', 'b', 'c', 'd', 'e', 'f', 'g']) await cache.read(key);
    // "e" is the third last, and two are remembered.
    for (const key of ['e', 'g']) await cache.read(key);
    expect(['e', 'f', 'g'].map((key) => cache.has(key))).toEqual([false, false, true]);
  });

  it('full, keeps what is expected at once: it is about to be used', async () => {
    const { reader } = createReader();
    const cache = new HostCache(reader, PAGE_BYTES);
    await cache.read('a');
    await cache.expect(['b'], 1);
    expect(['a', 'b'].map((key) => cache.has(key))).toEqual([false, true]);
    expect(cache.usedBytes).toBe(PAGE_BYTES);
  });

  it('lets a page pass that it would not keep: too large, or new to a full tier', async () => {
    const { reader } = createReader();
    const isPassing = async (budgetBytes: number, read: readonly string[], key: string): Promise<boolean> => {
      const cache = new HostCache(reader, budgetBytes);
      for (const before of read) await cache.read(before);
      return cache.isPassing(key, PAGE_BYTES);
    };
    expect(await isPassing(0, [], 'a')).toBe(true);
    expect(await isPassing(2 * PAGE_BYTES, ['a'], 'b')).toBe(false);
    expect(await isPassing(PAGE_BYTES, ['a'], 'b')).toBe(true);
    expect(await isPassing(PAGE_BYTES, ['a', 'b'], 'b')).toBe(false);
    expect(await isPassing(PAGE_BYTES, ['a'], 'a')).toBe(false);
  });

  it('lets nothing pass that is being read, nor what the store does not have', async () => {
    const { reader } = createReader();
    const cache = new HostCache(reader, 0);
    const read = cache.read('a');
    expect(cache.isPassing('a', PAGE_BYTES)).toBe(false);
    await read;
    expect(cache.isPassing('a', PAGE_BYTES)).toBe(true);
    expect(new HostCache({ ...reader, has: () => false }, 0).isPassing('a', PAGE_BYTES)).toBe(false);
  });

  it('reads a page past RAM, which counts as its first coming; a refusal counts for nothing', async () => {
    const { keys, intoKeys, refused, reader } = createReader();
    const cache = new HostCache(reader, PAGE_BYTES);
    await cache.read('a');
    refused.add('b');
    const target = new Uint8Array(PAGE_BYTES);
    expect(await cache.readPast('b', target)).toBe(false);
    expect(cache.isPassing('b', PAGE_BYTES)).toBe(true);
    expect(await cache.readPast('c', target)).toBe(true);
    expect(target).toEqual(new Uint8Array(PAGE_BYTES).fill('c'.charCodeAt(0)));
    expect(cache.usedBytes).toBe(PAGE_BYTES);
    expect(cache.isPassing('c', PAGE_BYTES)).toBe(false);
    await cache.read('c');
    expect(['a', 'c'].map((key) => cache.has(key))).toEqual([false, true]);
    expect([keys, intoKeys]).toEqual([['a', 'c'], ['c']]);
    expect(cache.counters).toEqual({ hits: 0, reads: 2, readBytes: 2 * PAGE_BYTES });
  });

  it('keeps nothing with a budget of 0, nor a page larger than its budget', async () => {
    for (const budgetBytes of [0, PAGE_BYTES - 1]) {
      const { keys, reader } = createReader();
      const cache = new HostCache(reader, budgetBytes);
      await cache.read('a');
      await cache.read('a');
      expect(keys).toEqual(['a', 'a']);
      expect(cache.usedBytes).toBe(0);
    }
  });

  it('tries a failed read once more, unnoticed by its callers', async () => {
    const { keys, reader } = createReader([1]);
    const cache = new HostCache(reader, 100);
    const [one, other] = await Promise.all([cache.read('a'), cache.read('a')]);
    expect(one).toBe(other);
    expect(keys).toEqual(['a', 'a']);
    expect(cache.counters).toEqual({ hits: 0, reads: 1, readBytes: PAGE_BYTES });
  });

  it('fails with the second error when both reads fail, and tries again when asked again', async () => {
    const { keys, reader } = createReader([1, 2]);
    const cache = new HostCache(reader, 100);
    await expect(Promise.all([cache.read('a'), cache.read('a')])).rejects.toThrow('read 2 failed');
    expect(cache.counters.reads).toBe(0);
    expect((await cache.read('a'))[0]).toBe('a'.charCodeAt(0));
    expect(keys).toEqual(['a', 'a', 'a']);
  });

  /** Lets every read that can end do so: they wait for nothing but promises, which come before the next turn. */
  const settle = () => new Promise((resolve) => setImmediate(resolve));

  it('reads what is expected for later, also where it keeps nothing', async () => {
    const { keys, reader } = createReader();
    const cache = new HostCache(reader, 0);
    cache.expect(['a', 'b']);
    await settle();
    expect(keys).toEqual(['a', 'b']);
    expect(cache.get('a')?.[0]).toBe(97);
    // Taken: it is on the GPU now, and nothing is kept here.
    expect(cache.get('a')).toBeUndefined();
    // What is no longer expected goes.
    cache.expect(['c']);
    expect(cache.get('b')).toBeUndefined();
    expect(cache.usedBytes).toBe(0);
  });

  it('reads at most eight expected pages at a time, the most expected first, and drops those that never began', async () => {
    const { keys, reader } = createReader();
    const cache = new HostCache(reader, 0);
    const many = Array.from({ length: 30 }, (_, index) => String.fromCharCode(97 + index));
    cache.expect(many);
    await settle();
    expect(keys).toEqual(many.slice(0, 8));
    cache.expect(['x', 'y']);
    await settle();
    expect(keys).toEqual([...many.slice(0, 8), 'x', 'y']);
    expect(cache.get('x')).toBeDefined();
  });

  it('makes room for the next expected page when one is taken, and keeps within its budget what it may keep', async () => {
    const { keys, reader } = createReader();
    const cache = new HostCache(reader, 3 * PAGE_BYTES);
    const many = Array.from({ length: 12 }, (_, index) => String.fromCharCode(97 + index));
    cache.expect(many);
    await settle();
    // Kept pages do not count as waiting: all were read, and three are left.
    expect(keys).toEqual(many);
    expect(cache.usedBytes).toBe(3 * PAGE_BYTES);
  });

  it('reads what is urgent at once, however much that is, and says when it is there', async () => {
    const { keys, reader } = createReader();
    const cache = new HostCache(reader, 0);
    const many = Array.from({ length: 30 }, (_, index) => String.fromCharCode(97 + index));
    await cache.expect(many, 12);
    expect(many.slice(0, 12).every((key) => cache.has(key))).toBe(true);
    // Twelve lie there already: nothing is read behind them until some are taken.
    await settle();
    expect(keys).toEqual(many.slice(0, 12));
    for (const key of many.slice(0, 12)) expect(cache.get(key)?.[0]).toBe(key.charCodeAt(0));
    await settle();
    expect(keys).toEqual(many.slice(0, 20));
  });

  it('an urgent read that fails is silent, and holds up none of the others', async () => {
    const { reader } = createReader([1, 3]);
    const cache = new HostCache(reader, 0);
    await cache.expect(['a', 'b'], 2);
    expect(['a', 'b'].map((key) => cache.has(key))).toEqual([false, true]);
  });

  it('measures what one more page takes while others are read, from the store and from the source apart', async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    let freeAtMs = 0;
    const read = async (key: string): Promise<Uint8Array> => {
      freeAtMs = Math.max(freeAtMs, performance.now()) + (key.startsWith('far') ? 20 : 4);
      await new Promise((resolve) => setTimeout(resolve, freeAtMs - performance.now()));
      return new Uint8Array(PAGE_BYTES);
    };
    const cache = new HostCache({ ...createReader().reader, read, has: (key: string) => !key.startsWith('far') }, 0);
    expect(cache.getReadMs('near')).toBe(0);
    for (const [tier, eachMs] of [
      ['near', 4],
      ['far', 20],
    ] as const) {
      const reads = Promise.all(Array.from({ length: 8 }, (_, index) => cache.read(`${tier}${index}`)));
      await vi.advanceTimersByTimeAsync(8 * eachMs);
      await reads;
      expect(cache.getReadMs(tier)).toBeCloseTo(eachMs);
    }
  });

  it('shares an expected read with who needs the page now, and begins that read at once', async () => {
    const { keys, reader } = createReader();
    const cache = new HostCache(reader, 0);
    cache.expect(Array.from({ length: 20 }, (_, index) => `p${index}`));
    const [page] = await Promise.all([cache.read('p19'), cache.read('p0')]);
    expect(page).toHaveLength(PAGE_BYTES);
    expect(keys.filter((key) => key === 'p0')).toHaveLength(1);
    expect(keys.filter((key) => key === 'p19')).toHaveLength(1);
    expect(cache.getReadMs('p0')).toBeGreaterThanOrEqual(0);
  });

  it('an expected read that fails is silent, and tried again when the page is needed', async () => {
    const { reader } = createReader([1, 2]);
    const cache = new HostCache(reader, 0);
    cache.expect(['a']);
    await settle();
    expect(cache.get('a')).toBeUndefined();
    expect((await cache.read('a'))[0]).toBe(97);
  });
});
