import { afterEach, expect, it } from 'vitest';
import { readDrop } from '../../../src/client/dropped-model';
import { EngineError } from '../../../src/errors';

interface Item {
  readonly kind: 'file' | 'string';
  readonly file?: File;
  /** Of a folder; null in a browser without handles. */
  readonly folder?: FileSystemDirectoryHandle | null;
  /** What asking for a handle ends with. */
  readonly refusal?: DOMException;
}

/** What a drop event carries: empty once its handler has returned. */
function createTransfer(items: readonly Item[]): DataTransfer {
  let isOver = false;
  queueMicrotask(() => {
    isOver = true;
  });
  const take = <T>(value: T): T | null => (isOver ? null : value);
  return {
    items: items.map(({ kind, file, folder, refusal }) => ({
      kind,
      getAsFile: () => take(file ?? null),
      webkitGetAsEntry: () => take({ isDirectory: folder !== undefined }),
      ...(folder === null
        ? {}
        : {
            getAsFileSystemHandle: async () => {
              if (refusal) throw refusal;
              return take(folder ?? { kind: 'file' });
            },
          }),
    })),
  } as unknown as DataTransfer;
}

const first = new File(['a'], 'm-00001-of-00002.gguf');
const second = new File(['b'], 'm-00002-of-00002.gguf');
const folder = { kind: 'directory', name: 'olmoe' } as FileSystemDirectoryHandle;

it('makes a source of a file, of several, and of a folder', async () => {
  expect(await readDrop(createTransfer([{ kind: 'string' }, { kind: 'file', file: first }]))).toEqual({
    kind: 'file',
    file: first,
    name: first.name,
  });
  const both = [first, second].map((file) => ({ kind: 'file', file }) as const);
  expect(await readDrop(createTransfer(both))).toEqual({ kind: 'folder', folder: [first, second], name: '2 files' });
  expect(await readDrop(createTransfer([{ kind: 'file', folder }]))).toEqual({ kind: 'folder', folder, name: 'olmoe' });
});

it.each([
  ['a text', [{ kind: 'string' }], /nothing that was dropped is a file/],
  [
    'two folders',
    [
      { kind: 'file', folder },
      { kind: 'file', folder },
    ],
    /2 items with a folder.*1 folder alone/,
  ],
  ['a folder where there are no handles', [{ kind: 'file', folder: null }], /drop the files of the model/],
] as const)('refuses %s', async (_, items, message) => {
  await expect(readDrop(createTransfer(items))).rejects.toMatchObject({
    code: 'BAD_ARGUMENT',
    message: expect.stringMatching(message),
  });
});

const refusal = new DOMException('the page may not read this', 'NotAllowedError');
const lost: unknown[] = [];
const note = (reason: unknown): void => {
  lost.push(reason);
};

afterEach(() => {
  process.off('unhandledRejection', note);
});

it('reads files of which there are no handles, and leaves no rejection behind', async () => {
  process.on('unhandledRejection', note);
  const items = [first, second].map((file) => ({ kind: 'file', file, refusal }) as const);
  expect(await readDrop(createTransfer(items))).toMatchObject({ kind: 'folder', folder: [first, second] });
  await expect(readDrop(createTransfer([...items, { kind: 'file', folder, refusal }]))).rejects.toThrow(EngineError);
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(lost).toEqual([]);
});

it('says why a folder cannot be opened', async () => {
  await expect(readDrop(createTransfer([{ kind: 'file', folder, refusal }]))).rejects.toMatchObject({
    name: 'EngineError',
    code: 'BAD_ARGUMENT',
    message: expect.stringMatching(/cannot be opened \(NotAllowedError: the page may not read this\); drop it again/),
    cause: refusal,
  });
});
