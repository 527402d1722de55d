import { expect, onTestFinished, test, vi } from 'vitest';
import { getPageKey } from '../../../src/checkpoint/manifest';
import { createLru } from '../../../src/experts/eviction';
import { HostCache } from '../../../src/experts/host-cache';
import { type PageTable, PROMISED } from '../../../src/experts/page-table';
import { type ExpectedPage, Pager } from '../../../src/experts/pager';
import type { SlotPool } from '../../../src/experts/slot-pool';
import type { StagingRing } from '../../../src/gpu/staging-ring';

const EXPERTS = 16;
const READ_MS = 30;

/** Layers of one group, with slots for half their experts; what the GPU has is noted only, and reads take their time, one after another. */
function createPager(moeLayers = 1, ownHost?: HostCache, staging: object = { take: () => null, submit: () => {} }) {
  const rows: Record<number, number[]> = {};
  const uploads: number[] = [];
  const reads: string[] = [];
  let freeAtMs = 0;
  const read = async (key: string): Promise<Uint8Array> => {
    reads.push(key);
    freeAtMs = Math.max(freeAtMs, performance.now()) + READ_MS;
    await new Promise((resolve) => setTimeout(resolve, freeAtMs - performance.now()));
    return Uint8Array.of(reads.length);
  };
  const host = ownHost ?? new HostCache({ read, readInto: async () => false, has: () => true, hasten: () => {} }, 0);
  const pool = {
    getSlots: () => EXPERTS / 2,
    getPageBytes: () => 1,
    locate: () => ({ buffer: null, offsetBytes: 0 }),
    write: (_layer: number, slot: number) => void uploads.push(slot),
  };
  const table = {
    writeRow(moeLayer: number, getEntry: (expert: number) => number) {
      rows[moeLayer] = Array.from({ length: EXPERTS }, (_, expert) => getEntry(expert));
    },
  };
  const pager = new Pager(
    moeLayers,
    { experts: EXPERTS, layersPerGroup: moeLayers },
    () => createLru(EXPERTS),
    pool as unknown as SlotPool,
    table as unknown as PageTable,
    host,
    staging as unknown as StagingRing,
  );
  return { pager, host, reads, uploads, rows };
}

function expectPages(probabilities: readonly number[]): ExpectedPage[] {
  return probabilities.map((probability, expert) => ({ moeLayer: 0, expert, isWanted: true, probability }));
}

/** For tests of how long something waits: no machine is too slow for them. The result of `work`, and when it was there. */
async function runTimed<T>(work: () => Promise<T>): Promise<{ result: T; tookMs: number }> {
  if (!vi.isFakeTimers()) {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
  }
  const startMs = performance.now();
  const timed = work().then((result) => ({ result, tookMs: performance.now() - startMs }));
  await vi.advanceTimersByTimeAsync(100 * READ_MS);
  return timed;
}

/** A fault takes as long as forty reads; nothing has been read yet, so a read counts as free. */
const patient = { faultMs: 40 * READ_MS, uploadMs: 0 };

test('waits for the pages that are worth it, and uploads them', async () => {
  const { pager, uploads } = createPager();
  const expected = expectPages([0.9, 0.05, 0.8]);
  await pager.readAhead(expected, patient);
  pager.prefetch(expected);
  expect([0, 1, 2].map((expert) => pager.isResident(0, expert))).toEqual([true, false, true]);
  expect(uploads).toHaveLength(2);
});

test('reads what is not worth waiting for behind what goes on, but none that is too improbable', async () => {
  const { pager, host, reads } = createPager();
  await runTimed(() => host.read(getPageKey(0, 15)));
  // Reading is worth it from 0.35 on, waiting from 0.7.
  const costs = { faultMs: READ_MS, uploadMs: 0 };
  const expected = expectPages([0.4, 0.5, 0.05]);
  expect((await runTimed(() => pager.readAhead(expected, costs))).tookMs).toBe(0);
  expect(reads.slice(1)).toEqual([getPageKey(0, 1), getPageKey(0, 0)]);
  pager.prefetch(expected);
  expect([0, 1, 2].map((expert) => pager.isResident(0, expert))).toEqual([true, true, false]);
});

test('waits for no more pages than come within the time of a fault, nor longer', async () => {
  const { pager, host, reads } = createPager();
  await runTimed(() => host.read(getPageKey(0, 15)));
  expect(host.getReadMs(getPageKey(0, 15))).toBe(READ_MS);
  const expected = expectPages([0.95, 0.95, 0.95, 0.95, 0.95]);
  const waiting = runTimed(async () => {
    await pager.readAhead(expected, { faultMs: 2.9 * READ_MS, uploadMs: 0 });
    pager.prefetch(expected);
    return pager.getResidents(0).length;
  });
  expect(await waiting).toEqual({ result: 2, tookMs: 2 * READ_MS });
  expect(reads).toHaveLength(6);
});

const FIRST_HALF = [0, 1, 2, 3, 4, 5, 6, 7];

test('a page brought in for one layer of a group is there for the others, read and counted once', async () => {
  const { pager, reads, rows } = createPager(2);
  await pager.ensure(0, [3, 5]);
  expect(await pager.ensure(1, [5])).toBe(0);
  expect(reads).toEqual([getPageKey(0, 3), getPageKey(0, 5)]);
  expect(pager.residentBytes).toBe(2);
  expect(rows[1]).toEqual(rows[0]);
  expect(pager.observe(1, [5, 6])).toEqual([6]);
});

test('pages expected by a layer do not evict what another layer of its group goes on with', async () => {
  const { pager, host } = createPager(2);
  await pager.ensure(0, FIRST_HALF);
  const expected = [8, 9].map((expert) => ({ moeLayer: 1, expert, isWanted: true }));
  await host.expect(
    expected.map(({ expert }) => getPageKey(0, expert)),
    expected.length,
  );
  pager.prefetch(expected.slice(0, 1), { moeLayer: 0, needed: FIRST_HALF });
  expect(pager.getResidents(0)).toEqual(FIRST_HALF);
  pager.prefetch(expected.slice(1), { moeLayer: 0, needed: FIRST_HALF.slice(1) });
  expect(pager.getResidents(0)).toEqual([...FIRST_HALF.slice(1), 9]);
});

test('a wave shows its own layer its set alone, and the others of the group all that is resident', async () => {
  const { pager, rows } = createPager(2);
  const waves = pager.planWaves(0, [...FIRST_HALF, 8, 9], []);
  const [first = []] = waves.sets;
  await pager.ensureWave(waves, first);
  pager.mapWave(waves, first);
  const shown = (moeLayer: number) => rows[moeLayer]?.flatMap((entry, expert) => (entry < PROMISED ? [expert] : []));
  expect(shown(0)).toEqual(first);
  expect(shown(1)).toEqual(pager.getResidents(1));
  pager.map(0);
  expect(rows[0]).toEqual(rows[1]);
});

test('a read that fails gives back the mapped memory of those beside it, and changes nothing', async () => {
  const failing = getPageKey(0, 1);
  const taken: string[] = [];
  const read = async (key: string): Promise<Uint8Array> => {
    if (key === failing) throw new Error('the disk is gone');
    return Uint8Array.of(1);
  };
  const readInto = async (key: string): Promise<boolean> => {
    if (key !== failing) await new Promise((resolve) => setTimeout(resolve, 5));
    return key !== failing;
  };
  const ring = {
    take: () => ({ bytes: new Uint8Array(1), buffer: `staging ${taken.push('taken')}` }),
    giveBack: () => void taken.pop(),
    copy: () => void taken.pop(),
    submit: () => {},
  };
  const host = new HostCache({ read, readInto, has: () => true, hasten: () => {} }, 0);
  const { pager, uploads } = createPager(1, host, ring);
  await expect(pager.ensure(0, [0, 1, 2])).rejects.toThrow('the disk is gone');
  expect([0, 1, 2].some((expert) => pager.isResident(0, expert))).toBe(false);
  await expect.poll(() => taken, { timeout: 30_000 }).toEqual([]);
  expect(await pager.ensure(0, [0, 2])).toBe(2);
  // The two beside the one that failed were read in vain.
  expect([host.past, uploads, taken]).toEqual([{ pages: 4, bytes: 4 }, [], []]);
});
