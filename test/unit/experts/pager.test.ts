import { expect, test } from 'vitest';
import { getPageKey } from '../../../src/checkpoint/manifest';
import { createLru } from '../../../src/experts/eviction';
import { HostCache } from '../../../src/experts/host-cache';
import type { PageTable } from '../../../src/experts/page-table';
import { type ExpectedPage, Pager } from '../../../src/experts/pager';
import type { SlotPool } from '../../../src/experts/slot-pool';

const EXPERTS = 16;
const READ_MS = 30;

/** One layer of half its experts; what the GPU has is noted only, and reads take their time, one after another. */
function createPager() {
  const uploads: number[] = [];
  const reads: string[] = [];
  let freeAtMs = 0;
  const read = async (key: string): Promise<Uint8Array> => {
    reads.push(key);
    freeAtMs = Math.max(freeAtMs, performance.now()) + READ_MS;
    await new Promise((resolve) => setTimeout(resolve, freeAtMs - performance.now()));
    return Uint8Array.of(reads.length);
  };
  const host = new HostCache({ read, has: () => true, hasten: () => {} }, 0);
  const pool = {
    getSlots: () => EXPERTS / 2,
    getPageBytes: () => 1,
    write: (_layer: number, slot: number) => void uploads.push(slot),
  };
  const table = { writeRow: () => {} };
  const pager = new Pager(
    1,
    EXPERTS,
    () => createLru(EXPERTS),
    pool as unknown as SlotPool,
    table as unknown as PageTable,
    host,
  );
  return { pager, host, reads, uploads };
}

function expectPages(probabilities: readonly number[]): ExpectedPage[] {
  return probabilities.map((probability, expert) => ({ moeLayer: 0, expert, isWanted: true, probability }));
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
  await host.read(getPageKey(0, 15));
  // Reading is worth it from 0.35 on, waiting from 0.7.
  const costs = { faultMs: READ_MS, uploadMs: 0 };
  const expected = expectPages([0.4, 0.5, 0.05]);
  const startMs = performance.now();
  await pager.readAhead(expected, costs);
  expect(performance.now() - startMs).toBeLessThan(READ_MS / 2);
  expect(reads.slice(1)).toEqual([getPageKey(0, 1), getPageKey(0, 0)]);
  await new Promise((resolve) => setTimeout(resolve, 4 * READ_MS));
  pager.prefetch(expected);
  expect([0, 1, 2].map((expert) => pager.isResident(0, expert))).toEqual([true, true, false]);
});

test('waits for no more pages than come within the time of a fault, nor longer', async () => {
  const { pager, host, reads } = createPager();
  await host.read(getPageKey(0, 15));
  const readMs = host.getReadMs(getPageKey(0, 15));
  const expected = expectPages([0.95, 0.95, 0.95, 0.95, 0.95]);
  const startMs = performance.now();
  await pager.readAhead(expected, { faultMs: 2.9 * readMs, uploadMs: 0 });
  expect(performance.now() - startMs).toBeLessThan(2.9 * readMs + READ_MS);
  pager.prefetch(expected);
  expect(pager.getResidents(0).length).toBeLessThanOrEqual(2);
  expect(reads).toHaveLength(6);
});
