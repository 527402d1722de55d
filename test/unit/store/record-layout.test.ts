import { expect, it } from 'vitest';
import { layOutRecords } from '../../../src/store/record-layout';

it('lays pages out expert-major behind the other records, each at a block, none over another', () => {
  const { places, totalBytes } = layOutRecords([
    { key: 'page/10/0', sizeBytes: 1 },
    { key: 'page/2/1', sizeBytes: 4097 },
    { key: 'tensor/head', sizeBytes: 3 },
    { key: 'page/2/0', sizeBytes: 4096 },
    { key: 'tensor/0/attnNorm', sizeBytes: 0 },
    { key: 'tensor/1/attnNorm', sizeBytes: 5000 },
  ]);
  expect([...places]).toEqual([
    ['tensor/head', { offsetBytes: 0, lengthBytes: 3 }],
    ['tensor/0/attnNorm', { offsetBytes: 4096, lengthBytes: 0 }],
    ['tensor/1/attnNorm', { offsetBytes: 4096, lengthBytes: 5000 }],
    ['page/2/0', { offsetBytes: 12_288, lengthBytes: 4096 }],
    ['page/2/1', { offsetBytes: 16_384, lengthBytes: 4097 }],
    ['page/10/0', { offsetBytes: 24_576, lengthBytes: 1 }],
  ]);
  expect(totalBytes).toBe(28_672);
});

it('knows no limit of 32 bits', () => {
  const records = Array.from({ length: 40 }, (_, i) => ({ key: `page/0/${i}`, sizeBytes: 2 ** 30 }));
  const { places, totalBytes } = layOutRecords(records);
  expect(places.get('page/0/39')).toEqual({ offsetBytes: 39 * 2 ** 30, lengthBytes: 2 ** 30 });
  expect(totalBytes).toBe(40 * 2 ** 30);
});
