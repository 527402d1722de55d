/** Rate and time left of an install: of arrivals at given times, and as an install reports them. */
import { setTimeout as wait } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { ByteSource } from '../../../src/checkpoint/byte-source';
import { installModel } from '../../../src/store/install';
import { createMemorySource } from '../../../src/store/memory-source';
import { createMemoryStore } from '../../../src/store/memory-store';
import type { InstallProgress } from '../../../src/store/model-store';
import { TransferRate } from '../../../src/store/transfer-rate';
import { readGoldenModel } from '../../golden';

it('is unknown before anything arrived and in the first quarter of a second', () => {
  const rate = new TransferRate(1000);
  expect(rate.getBytesPerSecond(2000)).toBeNull();
  const early = new TransferRate(1000);
  early.add(5000, 1100);
  expect(early.getBytesPerSecond(1200)).toBeNull();
  expect(early.getBytesPerSecond(1300)).toBeGreaterThan(0);
});

it('of a constant flow is the flow, soon and later', () => {
  const rate = new TransferRate(0);
  for (let nowMs = 50; nowMs <= 60_000; nowMs += 50) {
    rate.add(100_000, nowMs);
    if (nowMs >= 1000) expect((rate.getBytesPerSecond(nowMs) ?? 0) / 2e6).toBeCloseTo(1, 1);
  }
});

it('follows a flow that changes, and falls while nothing arrives', () => {
  const rate = new TransferRate(0);
  for (let nowMs = 50; nowMs <= 20_000; nowMs += 50) rate.add(100_000, nowMs);
  for (let nowMs = 20_050; nowMs <= 40_000; nowMs += 50) rate.add(10_000, nowMs);
  const slow = rate.getBytesPerSecond(40_000) ?? 0;
  expect(slow / 2e5).toBeGreaterThan(0.9);
  expect(slow / 2e5).toBeLessThan(1.5);
  expect(rate.getBytesPerSecond(48_000)).toBeLessThan(slow / 2);
});

it('comes with the progress of an install, and with it the time left', async () => {
  const file = createMemorySource(await readGoldenModel('e16k4-q4_0'), 'tiny.gguf');
  const slow: ByteSource = {
    ...file,
    async read(offsetBytes, lengthBytes, signal) {
      await wait(200);
      return file.read(offsetBytes, lengthBytes, signal);
    },
  };
  const reports: InstallProgress[] = [];
  const onProgress = (progress: InstallProgress) => reports.push(progress);
  await installModel(slow, createMemoryStore(), { batchBytes: 8192, onProgress });
  const known = reports.filter(({ bytesPerSecond }) => bytesPerSecond !== null);
  expect(known.length).toBeGreaterThan(0);
  for (const { doneBytes, totalBytes, bytesPerSecond, remainingMs } of known) {
    expect(remainingMs).toBeCloseTo(((totalBytes - doneBytes) / (bytesPerSecond ?? 0)) * 1000, 3);
  }
  expect(reports.at(-1)?.remainingMs ?? 0).toBe(0);
});
