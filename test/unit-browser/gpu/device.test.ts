import { describe, expect, it } from 'vitest';
import { openDevice } from '../../../src/gpu/device';
import { chooseVariant } from '../../../src/kernels/variant';

describe('opening a device', () => {
  it("raises limits to the adapter's, or leaves all at their defaults", async () => {
    const [own, plain] = [await openDevice(), await openDevice({ defaultLimitsOnly: true })];
    expect(plain.limits.maxStorageBuffersPerShaderStage).toBe(8);
    expect(plain.limits.maxStorageBufferBindingSize).toBe(2 ** 27);
    expect([...plain.handle.features].filter((name) => name !== 'core-features-and-limits')).toEqual([]);
    expect(own.limits.maxBufferSize).toBeGreaterThanOrEqual(plain.limits.maxBufferSize);
    expect(chooseVariant(plain.traits).reduce).toBe('workgroup');
    expect(chooseVariant(own.traits).reduce).toBe(own.traits.subgroupSize === null ? 'workgroup' : 'subgroup');
    expect(own.description).not.toBe('');
    own.destroy();
    plain.destroy();
    expect(await own.lost).toMatchObject({ code: 'DEVICE_LOST', message: expect.stringContaining('destroyed') });
  });

  it('says NO_WEBGPU, and what to do, without an adapter', async () => {
    const gpu = { requestAdapter: async () => null } as unknown as GPU;
    await expect(openDevice({ gpu })).rejects.toMatchObject({
      code: 'NO_WEBGPU',
      message: expect.stringContaining('hardware acceleration'),
    });
  });
});
