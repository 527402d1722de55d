import { describe, expect, it } from 'vitest';
import type { ByteSource } from '../../../src/checkpoint/byte-source';
import { EngineError } from '../../../src/errors';
import { createMemorySource } from '../../../src/store/memory-source';
import { readSlabs, type Slab } from '../../../src/store/slab-reader';
import { createBytes } from './store-contract';

const MIB = 2 ** 20;
const file = createBytes(20 * MIB);
const never = new AbortController().signal;

/** The file with a log of its reads; each takes a turn of the event loop. */
function createLoggedSource(failAtRead = Number.POSITIVE_INFINITY) {
  const memory = createMemorySource(file, 'file');
  const log = { reads: [] as [number, number][], parallel: 0, maxParallel: 0, aborted: 0 };
  const source: ByteSource = {
    ...memory,
    async read(offsetBytes, lengthBytes, signal) {
      log.reads.push([offsetBytes, lengthBytes]);
      const index = log.reads.length;
      log.maxParallel = Math.max(log.maxParallel, ++log.parallel);
      await new Promise((resolve) => setTimeout(resolve, 5));
      log.parallel--;
      if (index === failAtRead) throw new EngineError('NETWORK', 'gone');
      if (signal?.aborted) log.aborted++;
      return memory.read(offsetBytes, lengthBytes, signal);
    },
  };
  return { source, log };
}

async function checkSlabs(slabs: Slab[]) {
  const { source, log } = createLoggedSource();
  let arrivedBytes = 0;
  const buffers = await readSlabs(source, slabs, never, (bytes) => {
    arrivedBytes += bytes;
  });
  expect(buffers).toHaveLength(slabs.length);
  for (const [i, { offsetBytes, lengthBytes }] of slabs.entries()) {
    const expected = file.subarray(offsetBytes, offsetBytes + lengthBytes);
    expect(Buffer.compare(buffers[i]!, expected)).toBe(0);
  }
  expect(arrivedBytes).toBe(slabs.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0));
  return log;
}

describe('readSlabs', () => {
  it('joins neighbours in file order, alignment gaps included, and keeps the order of the slabs', async () => {
    const log = await checkSlabs([
      { offsetBytes: 3000, lengthBytes: 1000 },
      { offsetBytes: 0, lengthBytes: 1000 },
      { offsetBytes: 1024, lengthBytes: 1900 },
      { offsetBytes: 2 * MIB, lengthBytes: 10 },
    ]);
    expect(log.reads).toEqual([
      [0, 4000],
      [2 * MIB, 10],
    ]);
  });

  it('cuts what is longer than 4 MiB and reads at most 4 ranges at a time', async () => {
    const log = await checkSlabs([
      { offsetBytes: 5, lengthBytes: 9 * MIB },
      { offsetBytes: 9 * MIB + 5, lengthBytes: 10 * MIB },
    ]);
    expect(log.reads).toHaveLength(5);
    for (const [, lengthBytes] of log.reads) expect(lengthBytes).toBeLessThanOrEqual(4 * MIB);
    expect(log.maxParallel).toBe(4);
  });

  it('reads overlapping and empty slabs, and nothing for nothing', async () => {
    await checkSlabs([
      { offsetBytes: 100, lengthBytes: 50 },
      { offsetBytes: 100, lengthBytes: 50 },
      { offsetBytes: 120, lengthBytes: 100 },
      { offsetBytes: 7, lengthBytes: 0 },
    ]);
    expect((await checkSlabs([])).reads).toEqual([]);
  });

  it('starts no read after a failure and aborts those under way', async () => {
    const slabs = Array.from({ length: 10 }, (_, i) => ({ offsetBytes: i * 2 * MIB, lengthBytes: 10 }));
    const { source, log } = createLoggedSource(2);
    await expect(readSlabs(source, slabs, never, () => undefined)).rejects.toMatchObject({ code: 'NETWORK' });
    const readsAtFailure = log.reads.length;
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(log.reads.length).toBe(readsAtFailure);
    expect(readsAtFailure).toBeLessThanOrEqual(5);
    expect(log.aborted).toBeGreaterThan(0);
  });
});
