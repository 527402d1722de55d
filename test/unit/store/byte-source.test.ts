import { describe, expect, it } from 'vitest';
import { createBlobSource } from '../../../src/store/blob-source';
import { createMemorySource } from '../../../src/store/memory-source';

const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i % 256);

describe.each([
  ['a memory source', createMemorySource(bytes, 'm.gguf')],
  ['a blob source', createBlobSource(new Blob([bytes]), 'm.gguf')],
])('%s', (_name, source) => {
  it('reads exact ranges', async () => {
    expect(source).toMatchObject({ name: 'm.gguf', sizeBytes: 1000 });
    expect(await source.read(250, 500)).toEqual(bytes.slice(250, 750));
    expect(await source.read(1000, 0)).toEqual(new Uint8Array(0));
  });

  it('gives bytes that the caller may change', async () => {
    (await source.read(0, 4)).fill(99);
    expect(await source.read(0, 4)).toEqual(bytes.slice(0, 4));
  });

  it('refuses a range outside the file and names both', async () => {
    await expect(source.read(999, 2)).rejects.toMatchObject({
      code: 'BAD_FILE',
      message: expect.stringMatching(/2 bytes at offset 999 lie outside the file of 1000/),
    });
    await expect(source.read(Number.NaN, 2)).rejects.toMatchObject({ code: 'BAD_FILE' });
  });

  it('refuses to read for an aborted caller', async () => {
    await expect(source.read(0, 1, AbortSignal.abort())).rejects.toMatchObject({ code: 'ABORTED' });
  });
});

describe('a blob source', () => {
  it('says that the file changed when it cannot be read any more', async () => {
    const gone = {
      size: 10,
      slice: () => ({ arrayBuffer: () => Promise.reject(new DOMException('gone', 'NotReadableError')) }),
    };
    await expect(createBlobSource(gone as unknown as Blob, 'm.gguf').read(0, 4)).rejects.toMatchObject({
      code: 'STORAGE',
      message: expect.stringMatching(/"m\.gguf".*choose it again/),
    });
  });
});
