import { afterAll, afterEach, beforeEach, expect, it } from 'vitest';
import { openDevice } from '../../../src/gpu/device';
import { type DeviceBuffer, GpuMemory } from '../../../src/gpu/memory';
import { Submission } from '../../../src/gpu/pass';
import { StagingRing } from '../../../src/gpu/staging-ring';

const BYTES = 4096;
const device = await openDevice({ defaultLimitsOnly: true });
const memory = new GpuMemory(device, 2 ** 20);
afterAll(() => device.destroy());

let ring: StagingRing;
let first: DeviceBuffer;
let second: DeviceBuffer;
let readback: DeviceBuffer;
beforeEach(async () => {
  ring = new StagingRing(device);
  await addBuffers(2);
  [first, second, readback] = (await memory.allocate([
    { label: 'first', sizeBytes: BYTES, kind: 'storage' },
    { label: 'second', sizeBytes: 2 * BYTES, kind: 'storage' },
    { label: 'readback', sizeBytes: 2 * BYTES, kind: 'readback' },
  ])) as [DeviceBuffer, DeviceBuffer, DeviceBuffer];
});
afterEach(() => memory.freeAll());

async function addBuffers(count: number): Promise<DeviceBuffer[]> {
  const requests = Array.from({ length: count }, () => ({
    label: 'staging',
    sizeBytes: BYTES,
    kind: 'staging' as const,
  }));
  const buffers = await memory.allocate(requests);
  ring.setBuffers(buffers);
  await ring.settle();
  return buffers;
}

/** First byte of the first target and of the place in the second, behind what was submitted so far. */
async function readTargets(submission = new Submission(device)): Promise<number[]> {
  const parts = [
    { source: first, offsetBytes: 0, sizeBytes: BYTES },
    { source: second, offsetBytes: BYTES, sizeBytes: BYTES },
  ];
  const bytes = await submission.submitAndRead(parts, readback);
  return [0, BYTES].map((at) => new Uint8Array(bytes)[at] as number);
}

function stage(value: number, target: DeviceBuffer): void {
  const range = ring.take(BYTES);
  if (!range) throw new Error('nothing is mapped');
  range.bytes.fill(value);
  ring.copy(range, target, target === second ? BYTES : 0);
}

it('copies what was written in place, each to its place, by one submission', async () => {
  stage(7, first);
  stage(9, second);
  const before = await readTargets();
  ring.submit();
  expect([before, await readTargets()]).toEqual([
    [0, 0],
    [7, 9],
  ]);
});

it('keeps the order of the queue: behind what was submitted, before what is submitted next', async () => {
  const copyUp = (): Submission => {
    const submission = new Submission(device);
    submission.copy(first, 0, second, BYTES, BYTES);
    return submission;
  };
  stage(1, first);
  ring.submit();
  // Reads the first target as it is before the next copy, although it is not waited for.
  copyUp().submit();
  stage(2, first);
  ring.submit();
  expect(await readTargets()).toEqual([2, 1]);
  // Recorded before the copy is queued, submitted behind it.
  const late = copyUp();
  await ring.settle();
  stage(3, first);
  ring.submit();
  expect(await readTargets(late)).toEqual([3, 3]);
});

it('gives what is mapped and no more, never waits, and maps again what was copied', async () => {
  for (let round = 1; round <= 5; round++) {
    stage(round, first);
    stage(round + 100, second);
    expect(ring.take(BYTES)).toBeNull();
    ring.submit();
    await ring.settle();
    expect(await readTargets()).toEqual([round, round + 100]);
  }
});

it('gives memory that was given back again, and none that is too small', () => {
  const [one, other] = [ring.take(BYTES), ring.take(16)];
  if (!one || !other) throw new Error('two are mapped');
  expect(other.bytes.byteLength).toBe(16);
  ring.giveBack(one);
  expect(ring.take(BYTES + 4)).toBeNull();
  expect(ring.take(BYTES)?.buffer).toBe(one.buffer);
});

it('forgets buffers that are replaced, also those that are taken or being mapped', async () => {
  const range = ring.take(BYTES);
  if (!range) throw new Error('two are mapped');
  stage(5, first);
  ring.submit();
  const before = [...ring.buffers];
  ring.setBuffers([]);
  memory.free(before);
  expect(range.bytes.byteLength).toBe(0);
  ring.giveBack(range);
  expect([ring.take(4), ring.sizeBytes]).toEqual([null, 0]);
  const [buffer] = await addBuffers(1);
  ring.copy(range, first, 0);
  expect(ring.take(4)?.buffer).toBe(buffer);
  expect(ring.take(4)).toBeNull();
  ring.submit();
  expect(await readTargets()).toEqual([5, 0]);
  expect(device.getError()).toBeUndefined();
});

it('has nothing to give once the device is lost, and what was taken can still be let go', async () => {
  const own = await openDevice({ defaultLimitsOnly: true });
  const ledger = new GpuMemory(own, 4 * BYTES);
  const lost = new StagingRing(own);
  const request = { label: 'staging', sizeBytes: BYTES, kind: 'staging' as const };
  const [slot, ...buffers] = await ledger.allocate([{ ...request, kind: 'storage' }, request, request, request]);
  lost.setBuffers(buffers);
  await lost.settle();
  const [one, other] = [lost.take(BYTES), lost.take(BYTES)];
  if (!slot || !one || !other) throw new Error('three are mapped');
  own.destroy();
  expect([one.bytes.byteLength, lost.take(BYTES)]).toEqual([0, null]);
  lost.giveBack(one);
  lost.copy(other, slot, 0);
  lost.submit();
  await lost.settle();
  expect(lost.take(4)).toBeNull();
  expect(await own.readLoss()).toMatchObject({ code: 'DEVICE_LOST' });
});
