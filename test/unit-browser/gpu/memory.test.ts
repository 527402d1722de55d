import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { openDevice } from '../../../src/gpu/device';
import { GpuMemory } from '../../../src/gpu/memory';

const MIB = 2 ** 20;
const device = await openDevice({ defaultLimitsOnly: true });

afterAll(() => device.destroy());

describe('the byte ledger', () => {
  let memory: GpuMemory;
  beforeEach(() => {
    memory = new GpuMemory(device, 4 * MIB);
    return () => memory.freeAll();
  });

  const storage = (sizeBytes: number, label = 'pages') => ({ label, sizeBytes, kind: 'storage' as const });

  it('counts bytes in use, and the most there were', async () => {
    const first = await memory.allocate([storage(MIB), storage(2 * MIB)]);
    expect([memory.usedBytes, memory.peakBytes]).toEqual([3 * MIB, 3 * MIB]);
    memory.free(first.slice(1));
    expect([memory.usedBytes, memory.peakBytes]).toEqual([MIB, 3 * MIB]);
    await memory.allocate([storage(MIB)]);
    expect([memory.usedBytes, memory.peakBytes]).toEqual([2 * MIB, 3 * MIB]);
    memory.freeAll();
    expect([memory.usedBytes, memory.peakBytes]).toEqual([0, 3 * MIB]);
  });

  it('counts what a buffer takes: whole 16 bytes, never none', async () => {
    const [small, empty] = await memory.allocate([storage(17), storage(0)]);
    expect([small!.size, empty!.size, memory.usedBytes]).toEqual([32, 16, 48]);
  });

  it('does not count a buffer down twice', async () => {
    const buffers = await memory.allocate([storage(MIB), storage(MIB)]);
    memory.free([buffers[0]!, buffers[0]!]);
    memory.free([buffers[0]!]);
    expect(memory.usedBytes).toBe(MIB);
  });

  it('fills the plan to the last byte and refuses one unit more, naming plan, use and request', async () => {
    await memory.allocate([storage(4 * MIB - 16)]);
    await expect(memory.allocate([storage(17, 'late page')])).rejects.toMatchObject({
      code: 'OUT_OF_GPU_MEMORY',
      message: expect.stringMatching(/^32 bytes .*late page.* 4194304 planned bytes 4194288 are taken/),
    });
    expect([memory.usedBytes, memory.peakBytes]).toEqual([4 * MIB - 16, 4 * MIB - 16]);
    await memory.allocate([storage(16)]);
    expect(memory.usedBytes).toBe(4 * MIB);
  });

  it('refuses the second of two allocations side by side when only one fits', async () => {
    const [first, second] = await Promise.allSettled([
      memory.allocate([storage(3 * MIB)]),
      memory.allocate([storage(3 * MIB)]),
    ]);
    expect(first.status).toBe('fulfilled');
    expect(second).toMatchObject({ status: 'rejected', reason: { code: 'OUT_OF_GPU_MEMORY' } });
    expect([memory.usedBytes, memory.peakBytes]).toEqual([3 * MIB, 3 * MIB]);
  });

  it('reports a buffer that the GPU refuses, frees its batch, and stays usable', async () => {
    const roomy = new GpuMemory(device, 2 ** 45);
    await roomy.allocate([storage(MIB)]);
    await expect(roomy.allocate([storage(MIB), storage(2 ** 44, 'all slots')])).rejects.toMatchObject({
      code: 'OUT_OF_GPU_MEMORY',
      message: expect.stringMatching(/GPU refused .* on top of 1048576: lower the GPU budget/),
    });
    expect([roomy.usedBytes, roomy.peakBytes]).toEqual([MIB, MIB]);
    await roomy.allocate([storage(MIB)]);
    expect(roomy.usedBytes).toBe(2 * MIB);
    expect(device.getError(), 'the refusal is not an error of the device').toBeUndefined();
    roomy.freeAll();
  });
});
