import { describe, expect, it } from 'vitest';
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
  const hastened: string[] = [];
  return { keys, hastened, reader: { read, hasten: (key: string) => void hastened.push(key) } };
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
      await expect(new HostCache({ read, hasten: () => {} }, 0).read('a')).rejects.toMatchObject({ code });
      expect(reads).toBe(1);
    }
  });

  it('drops the least recently used pages at its budget, and never passes it', async () => {
    const { keys, reader } = createReader();
    const cache = new HostCache(reader, 2 * PAGE_BYTES + 5);
    await cache.read('a');
    await cache.read('b');
    cache.get('a');
    await cache.read('c');
    expect(cache.usedBytes).toBe(2 * PAGE_BYTES);
    expect(['a', 'b', 'c'].filter((key) => cache.get(key))).toEqual(['a', 'c']);
    await cache.read('b');
    expect(keys).toEqual(['a', 'b', 'c', 'b']);
    expect(cache.usedBytes).toBe(2 * PAGE_BYTES);
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
});
