import { afterAll, expect, it } from 'vitest';
import { openDevice } from '../../../src/gpu/device';
import { type DeviceBuffer, GpuMemory } from '../../../src/gpu/memory';
import { Submission } from '../../../src/gpu/pass';
import { encodeWords, getUniformBytes, UniformBlock, type UniformWord } from '../../../src/gpu/uniforms';

const device = await openDevice({ defaultLimitsOnly: true });
const memory = new GpuMemory(device, 2 ** 20);

afterAll(() => {
  memory.freeAll();
  device.destroy();
});

/** A block whose words can be copied back: a uniform buffer itself cannot. */
async function open(count: number) {
  const requests = [
    { label: 'structs', sizeBytes: getUniformBytes(count), kind: 'storage' as const },
    { label: 'read-back', sizeBytes: getUniformBytes(count), kind: 'readback' as const },
  ];
  const [buffer, readback] = (await memory.allocate(requests)) as [DeviceBuffer, DeviceBuffer];
  const read = async ({ offset = 0, size = 0 }: GPUBufferBinding): Promise<number[]> => {
    const part = { source: buffer, offsetBytes: offset, sizeBytes: size };
    return [...new Uint32Array(await new Submission(device).submitAndRead([part], readback))];
  };
  const block = new UniformBlock(device, buffer);
  return {
    add: (...words: UniformWord[]) => block.add(...words) as GPUBufferBinding,
    set: (index: number, ...words: UniformWord[]) => block.set(index, ...words) as GPUBufferBinding,
    reserve: (count: number) => block.reserve(count),
    read,
  };
}

it('structs that are added do not overlap reserved places, which can be rewritten', async () => {
  const block = await open(5);
  const first = block.add(1, 2);
  const place = block.reserve(2);
  const last = block.add(9);
  const [one, other] = [block.set(place, 3, 4, 5, 6, 7), block.set(place + 1, 8)];
  expect(place).toBe(1);
  expect([first, one, other, last].map(({ offset }) => offset)).toEqual([0, 256, 512, 768]);
  expect([first, one].map(({ size }) => size)).toEqual([16, 32]);
  expect(await block.read(one)).toEqual([3, 4, 5, 6, 7, 0, 0, 0]);
  const again = block.set(place, 30);
  expect(again.offset).toBe(one.offset);
  expect(await block.read(again)).toEqual([30, 0, 0, 0]);
  for (const [binding, words] of [
    [first, [1, 2, 0, 0]],
    [other, [8, 0, 0, 0]],
    [last, [9, 0, 0, 0]],
  ] as const) {
    expect(await block.read(binding)).toEqual(words);
  }
});

it('a struct beyond the buffer is refused', async () => {
  const block = await open(2);
  block.reserve(2);
  expect(() => block.add(1)).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
});

it('words are little-endian, floats are bits, the rest is zero', () => {
  expect([...new Uint8Array(encodeWords([0x01020304, { f32: 1 }], 12))]).toEqual([
    4, 3, 2, 1, 0, 0, 0x80, 0x3f, 0, 0, 0, 0,
  ]);
});
