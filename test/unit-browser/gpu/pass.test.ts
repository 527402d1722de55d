import { describe, expect, it } from 'vitest';
import { type GpuDevice, openDevice } from '../../../src/gpu/device';
import { type DeviceBuffer, GpuMemory } from '../../../src/gpu/memory';
import { Submission } from '../../../src/gpu/pass';
import { compileProgram, type ProgramSpec } from '../../../src/gpu/program';
import { getUniformBytes, UniformBlock } from '../../../src/gpu/uniforms';

/** words[i] = words[i] * FACTOR + addend. */
const MULTIPLY: ProgramSpec = {
  name: 'multiply',
  source: `override FACTOR: u32;
@group(0) @binding(0) var<uniform> addend: u32;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;
@compute @workgroup_size(1)
fn multiply(@builtin(workgroup_id) group: vec3<u32>) {
  words[group.x] = words[group.x] * FACTOR + addend;
}`,
  bindings: ['uniform', 'write'],
  constants: { FACTOR: 3 },
};

async function withDevice(body: (device: GpuDevice, words: DeviceBuffer, readback: DeviceBuffer) => Promise<void>) {
  const device = await openDevice();
  const [words, readback] = await new GpuMemory(device, 2 ** 20).allocate([
    { label: 'words', sizeBytes: 16, kind: 'storage' },
    { label: 'readback', sizeBytes: 32, kind: 'readback' },
  ]);
  try {
    await body(device, words!, readback!);
  } finally {
    device.destroy();
  }
}

const whole = (source: DeviceBuffer) => ({ source, offsetBytes: 0, sizeBytes: source.size });

describe('a submission', () => {
  it('runs dispatches and copies in order, reads parts back one after another, and counts', async () => {
    await withDevice(async (device, words, readback) => {
      const memory = new GpuMemory(device, 2 ** 20);
      const [copy, uniforms] = await memory.allocate([
        { label: 'copy', sizeBytes: 16, kind: 'storage' },
        { label: 'uniforms', sizeBytes: getUniformBytes(2), kind: 'uniform' },
      ]);
      const block = new UniformBlock(device, uniforms!);
      const program = await compileProgram(device, MULTIPLY);
      const addOne = program.bind([block.add(1), words]);
      const addFive = program.bind([block.add(5), words]);
      device.handle.queue.writeBuffer(words, 0, Uint32Array.of(1, 2, 3, 4));

      const submission = new Submission(device);
      submission.dispatch(program.pipeline, addOne, 3);
      submission.copy(words, 4, copy!, 0, 8);
      submission.dispatch(program.pipeline, addFive, 2);
      const parts = [whole(words), { source: copy!, offsetBytes: 0, sizeBytes: 8 }];
      const bytes = await submission.submitAndRead(parts, readback);
      expect([...new Uint32Array(bytes)]).toEqual([17, 26, 10, 4, 7, 10]);
      expect(device.counters).toEqual({ submits: 1, readbacks: 1 });

      new Submission(device).submit();
      expect(device.counters).toEqual({ submits: 2, readbacks: 1 });
      expect(() => block.add(9)).toThrow(/uniform struct 2 fits into 512 bytes/);
    });
  });

  it('fails with DEVICE_LOST at once when the device goes before, or during, a read-back', async () => {
    await withDevice(async (device, words, readback) => {
      const reading = new Submission(device).submitAndRead([whole(words)], readback);
      device.handle.destroy();
      const startMs = performance.now();
      await expect(reading).rejects.toMatchObject({ code: 'DEVICE_LOST' });
      await expect(new Submission(device).submitAndRead([whole(words)], readback)).rejects.toMatchObject({
        code: 'DEVICE_LOST',
      });
      // A read-back that waits for the device never ends; a busy machine may stand still for seconds.
      expect(performance.now() - startMs).toBeLessThan(10_000);
      expect(await device.lost).toMatchObject({ code: 'DEVICE_LOST' });
    });
  });

  it('fails with GPU_ERROR when the GPU refuses what was submitted', async () => {
    await withDevice(async (device, words, readback) => {
      const submission = new Submission(device);
      submission.copy(words, 0, words, 8, 2 ** 16);
      await expect(submission.submitAndRead([whole(words)], readback)).rejects.toMatchObject({ code: 'GPU_ERROR' });
    });
  });
});

describe('a program that does not compile', () => {
  it('is a GPU_ERROR with the kernel, line and message, and leaves the device usable', async () => {
    await withDevice(async (device, words, readback) => {
      const source = MULTIPLY.source.replace('* FACTOR', '* factor');
      await expect(compileProgram(device, { ...MULTIPLY, source })).rejects.toMatchObject({
        code: 'GPU_ERROR',
        message: expect.stringMatching(/^kernel multiply does not compile: 6:\d+ .*factor/),
      });
      const bytes = await new Submission(device).submitAndRead([whole(words)], readback);
      expect([...new Uint32Array(bytes)]).toEqual([0, 0, 0, 0]);
    });
  });

  it('names what is wrong also when the WGSL is right and its bindings or constants are not', async () => {
    await withDevice(async (device, words, readback) => {
      const noFactor = compileProgram(device, { ...MULTIPLY, constants: {} });
      await expect(noFactor).rejects.toMatchObject({ code: 'GPU_ERROR', message: expect.stringContaining('FACTOR') });
      const readOnly = compileProgram(device, { ...MULTIPLY, bindings: ['uniform', 'read'] });
      await expect(readOnly).rejects.toMatchObject({ code: 'GPU_ERROR', message: expect.stringContaining('binding') });
      await new Submission(device).submitAndRead([whole(words)], readback);
    });
  });
});
