/**
 * What was dropped on a page as the source of a model: a file, several files or a folder, read where they are.
 * Never reads a byte of them.
 */
import type { ModelSource } from '../engine/engine';
import { EngineError } from '../errors';

/** What DOM types leave out of a dropped item. */
interface HandleItem {
  getAsFileSystemHandle?(): Promise<FileSystemHandle | null>;
}

/**
 * Call it in the handler of the `drop` event itself: what was dropped is gone when that returns.
 * @throws EngineError `BAD_ARGUMENT` when there is no file, or several folders, or a folder that cannot be opened, as in a
 *   browser without handles.
 */
export async function readDrop(transfer: DataTransfer): Promise<ModelSource> {
  const items = [...transfer.items].filter(({ kind }) => kind === 'file');
  // All asked for before the first wait, after which the items are empty.
  const asked = items.map((item) => ({
    isFolder: item.webkitGetAsEntry()?.isDirectory ?? false,
    file: item.getAsFile(),
    // Settled here: of what is no folder nobody waits for it.
    opened: (item as HandleItem).getAsFileSystemHandle?.().then(
      (handle) => ({ handle, cause: null }),
      (cause: unknown) => ({ handle: null, cause }),
    ),
  }));
  const [first] = asked;
  if (!first) throw new EngineError('BAD_ARGUMENT', 'nothing that was dropped is a file or folder; drop a model file');
  if (asked.some(({ isFolder }) => isFolder)) {
    const { handle = null, cause = null } = asked.length === 1 ? ((await first.opened) ?? {}) : {};
    if (handle?.kind === 'directory') {
      return { kind: 'folder', folder: handle as FileSystemDirectoryHandle, name: handle.name };
    }
    if (cause !== null) {
      throw new EngineError(
        'BAD_ARGUMENT',
        `the folder that was dropped cannot be opened (${String(cause)}); drop it again, or drop the files of the model`,
        { cause },
      );
    }
    throw new EngineError(
      'BAD_ARGUMENT',
      `${asked.length} items with a folder were dropped, and 1 folder alone can be read where the browser gives handles of ` +
        'folders: drop the files of the model',
    );
  }
  const files = asked.flatMap(({ file }) => file ?? []);
  const [only] = files;
  if (files.length === 1 && only) return { kind: 'file', file: only, name: only.name };
  return { kind: 'folder', folder: files, name: `${files.length} files` };
}
