/** The order in which records are fetched: what is needed before what is expected before the rest, and little under way. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { ByteSource } from '../../../src/checkpoint/byte-source';
import type { InstallRecord } from '../../../src/checkpoint/install-plan';
import { EngineError } from '../../../src/errors';
import { type FetchedRecord, RecordQueue } from '../../../src/store/record-queue';

const RECORD_BYTES = 256 * 1024;
const RECORDS = 24;
/** What may be under way while no rate is known. */
const WINDOW_BYTES = 512 * 1024;

let digesting = 0;
beforeEach(() => {
  const digest = crypto.subtle.digest.bind(crypto.subtle);
  vi.spyOn(crypto.subtle, 'digest').mockImplementation((...args) => {
    digesting++;
    return digest(...args).finally(() => digesting--);
  });
});
afterEach(() => vi.restoreAllMocks());

/** Until nothing is under way but reads that the test has not ended: digests are all else that takes more than a turn. */
async function settle(): Promise<void> {
  do await new Promise((resolve) => setImmediate(resolve));
  while (digesting > 0);
}

/** A queue over a source whose reads end when the test says so. */
function createQueue(
  commit: (records: readonly FetchedRecord[]) => Promise<void> = async () => {},
  pack: InstallRecord['pack'] = async ([bytes]) => (bytes as Uint8Array<ArrayBuffer>).slice(),
) {
  const started: number[] = [];
  const waiting: (() => void)[] = [];
  const source: ByteSource = {
    name: 'test',
    sizeBytes: RECORDS * RECORD_BYTES,
    read(offsetBytes, lengthBytes, signal) {
      started.push(offsetBytes / RECORD_BYTES);
      return new Promise((resolve, reject) => {
        signal?.addEventListener('abort', () => reject(signal.reason));
        waiting.push(() => resolve(new Uint8Array(lengthBytes)));
      });
    },
  };
  const records: InstallRecord[] = Array.from({ length: RECORDS }, (_, i) => ({
    key: `page/0/${i}`,
    sizeBytes: RECORD_BYTES,
    sourceRanges: [{ purpose: `${i}`, offsetBytes: i * RECORD_BYTES, lengthBytes: RECORD_BYTES }],
    pack,
  }));
  const queue = new RecordQueue({
    source,
    records,
    commit,
    readLarge: null,
    getBytesPerSecond: () => null,
    batchBytes: RECORD_BYTES,
    onBytes: () => {},
  });
  /** Lets what is under way arrive, and what follows it start. */
  const arrive = async () => {
    for (const end of waiting.splice(0)) end();
    await settle();
  };
  return { queue, started, arrive, keys: records.map(({ key }) => key) };
}

it('fetches what is needed first, then what is expected, then the rest, never more than the window', async () => {
  const { queue, started, arrive, keys } = createQueue();
  const filling = queue.fill(keys.slice(0, 20));
  await arrive();
  const before = started.length;
  expect(before * RECORD_BYTES).toBeLessThanOrEqual(2 * WINDOW_BYTES);
  const expected = queue.fetch('page/0/19', 'expected');
  const needed = queue.fetch('page/0/23', 'needed');
  const under = started.length;
  for (let i = 0; i < RECORDS; i++) await arrive();
  await Promise.all([filling, expected, needed]);
  const after = started.slice(under);
  expect(after.indexOf(23)).toBeLessThan(after.indexOf(19));
  // The last of the rest, it was fetched early because it was expected.
  expect(after.indexOf(19)).toBeLessThan(3);
  expect([...started].sort((a, b) => a - b)).toEqual([...Array.from({ length: 20 }, (_, i) => i), 23]);
});

it('hastens what is expected, and asks for a record once however many wait for it', async () => {
  const { queue, started, arrive, keys } = createQueue();
  const filling = queue.fill(keys.slice(0, 8));
  await arrive();
  const both = [queue.fetch('page/0/20', 'expected'), queue.fetch('page/0/21', 'expected')];
  queue.hasten('page/0/21');
  const again = queue.fetch('page/0/21', 'needed');
  for (let i = 0; i < RECORDS; i++) await arrive();
  await Promise.all([filling, ...both, again]);
  expect(started.indexOf(21)).toBeLessThan(started.indexOf(20));
  expect(started.filter((record) => record === 21)).toHaveLength(1);
});

it('keeps the rest back while it is held, and goes on when it is let go', async () => {
  const { queue, started, arrive, keys } = createQueue();
  const release = queue.hold();
  const filling = queue.fill(keys.slice(0, 4));
  await arrive();
  expect(started).toEqual([]);
  const needed = queue.fetch('page/0/9', 'needed');
  await arrive();
  await arrive();
  await needed;
  expect(started).toEqual([9]);
  release();
  release();
  for (let i = 0; i < 8; i++) await arrive();
  await filling;
  expect(started).toHaveLength(5);
});

it('asks for nothing more until what has come is committed', async () => {
  let commits = 0;
  let letGo = () => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const { queue, started, arrive, keys } = createQueue(async () => {
    commits++;
    await held;
  });
  const filling = queue.fill(keys);
  for (let i = 0; i < 10; i++) await arrive();
  expect(started.length * RECORD_BYTES).toBeLessThanOrEqual(WINDOW_BYTES);
  expect(commits).toBe(started.length);
  letGo();
  for (let i = 0; i < RECORDS; i++) await arrive();
  await filling;
  expect(started).toHaveLength(RECORDS);
});

it('when it is closed ends every request, and whoever waits is told', async () => {
  const { queue, arrive, keys } = createQueue();
  const filling = queue.fill(keys);
  const needed = queue.fetch('page/0/5', 'needed');
  await settle();
  const ends = Promise.allSettled([filling, needed]);
  await queue.close();
  for (const end of await ends) {
    expect(end).toMatchObject({ status: 'rejected', reason: { code: 'ABORTED' } });
  }
  await expect(queue.fetch('page/0/6', 'needed')).rejects.toMatchObject({ code: 'ABORTED' });
  await arrive();
});

it('when it is closed ends the packing of what has come', async () => {
  let isPacking = false;
  const { queue, arrive } = createQueue(undefined, (_, signal) => {
    isPacking = true;
    return new Promise((_resolve, reject) => {
      signal?.addEventListener('abort', () => reject(new EngineError('ABORTED', 'aborted')));
    });
  });
  const needed = queue.fetch('page/0/5', 'needed');
  await new Promise((resolve) => setTimeout(resolve, 5));
  await arrive();
  expect(isPacking).toBe(true);
  const end = expect(needed).rejects.toMatchObject({ code: 'ABORTED', message: expect.stringMatching(/unloaded/) });
  await queue.close();
  await end;
});
