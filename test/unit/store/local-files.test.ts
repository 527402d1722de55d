import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it, vi } from 'vitest';
import { installModel } from '../../../src/store/install';
import { openLocalFile, openLocalFiles } from '../../../src/store/local-files';
import { createMemorySource } from '../../../src/store/memory-source';
import { createMemoryStore } from '../../../src/store/memory-store';
import { openModel } from '../../../src/store/open-model';

const golden = new URL('../../golden/e5k1-gqa-q4_0.gguf.gz', import.meta.url);
const bytes = new Uint8Array(gunzipSync(readFileSync(golden)));

/** A file as an input element with `webkitdirectory` gives it, or as a drop does. */
function createFile(path: string, content: BlobPart, isFolder = false): File {
  const file = new File([content], path.slice(path.lastIndexOf('/') + 1));
  Object.defineProperty(file, 'webkitRelativePath', { value: isFolder ? path : '' });
  return file;
}

type Tree = { readonly [name: string]: Tree | File };

/** A directory handle as a picker gives it. */
function createHandle(name: string, tree: Tree): FileSystemDirectoryHandle {
  return {
    kind: 'directory',
    name,
    async *entries() {
      for (const [entryName, entry] of Object.entries(tree)) {
        if (entry instanceof File) yield [entryName, { kind: 'file', name: entryName, getFile: async () => entry }];
        else yield [entryName, createHandle(entryName, entry)];
      }
    },
  } as unknown as FileSystemDirectoryHandle;
}

describe('openLocalFiles', () => {
  it.each([
    [
      'a folder of a picker',
      createHandle('model', {
        'README.md': new File(['x'], 'README.md'),
        gguf: { 'tiny.gguf': new File([bytes], 'tiny.gguf') },
      }),
    ],
    [
      'a folder of an input element',
      [createFile('model/README.md', 'x', true), createFile('model/gguf/tiny.gguf', bytes, true)],
    ],
  ] as const)('reads the model in %s where it is, without a copy', async (_, folder) => {
    const files = await openLocalFiles(folder, 'model');
    expect(files).toMatchObject({ name: 'model', ggufPath: 'gguf/tiny.gguf' });
    expect(await files.find('other.gguf')).toBeNull();
    const model = await openModel(files, null);
    const store = createMemoryStore();
    const { manifest } = await installModel(createMemorySource(bytes, 'tiny.gguf'), store);
    expect(model.plan.modelId).toBe(manifest.modelId);
    expect(model.isNew).toBe(false);
    expect(await model.records.read('page/0/1')).toEqual(await store.readRecord(manifest.modelId, 'page/0/1'));
    await model.close();
  });

  it('of several dropped models chooses one, and says so', async () => {
    const onWarning = vi.fn();
    const dropped = ['m-Q8_0.gguf', 'm-Q4_K_M.gguf'].map((path) => createFile(path, bytes));
    expect((await openLocalFiles(dropped, '2 files', { onWarning })).ggufPath).toBe('m-Q4_K_M.gguf');
    expect(onWarning).toHaveBeenCalledExactlyOnceWith(expect.stringMatching(/m-Q4_K_M\.gguf is used.*m-Q8_0/));
  });

  it('takes a folder of safetensors whole', async () => {
    const handle = createHandle('m', {
      'config.json': new File(['{}'], 'config.json'),
      'model.safetensors': new File(['x'], 'm'),
    });
    const files = await openLocalFiles(handle, 'm');
    expect(files.ggufPath).toBeNull();
    expect((await files.find('config.json'))?.sizeBytes).toBe(2);
  });

  it('refuses a folder without a model, one with too many files, and one that cannot be read', async () => {
    await expect(openLocalFiles([createFile('a.txt', 'x')], 'photos')).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringMatching(/photos.*neither a GGUF file nor safetensors/),
    });
    const one = new File(['x'], 'x');
    const many = createHandle('home', Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`${i}.txt`, one])));
    await expect(openLocalFiles(many, 'home')).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringMatching(/more than 10000 files; choose the folder of one model/),
    });
    const lost = {
      kind: 'directory',
      entries: () => ({
        [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(new DOMException('gone', 'NotFoundError')) }),
      }),
    };
    await expect(openLocalFiles(lost as unknown as FileSystemDirectoryHandle, 'lost')).rejects.toMatchObject({
      code: 'STORAGE',
      message: expect.stringMatching(/"lost" cannot be read.*choose it again/),
    });
    // What a kept handle says in a later visit, until the user has been asked.
    const unasked = { kind: 'file', getFile: () => Promise.reject(new DOMException('no', 'NotAllowedError')) };
    await expect(openLocalFile(unasked as unknown as FileSystemFileHandle, 'a.gguf')).rejects.toMatchObject({
      code: 'STORAGE',
      message: expect.stringMatching(/"a\.gguf" cannot be read.*ask for it in a click: handle\.requestPermission\(\)/),
    });
  });
});
