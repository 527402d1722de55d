/**
 * A file or folder of the user's, or several files, as a checkpoint: from a picker, a drop, an input element, kept handles.
 * Owns how they are listed and which is the model; never copies or keeps a byte.
 */
import { throwIfAborted } from '../aborts';
import { type CheckpointFiles, createLoneFile } from '../checkpoint/checkpoint-files';
import { EngineError } from '../errors';
import { createBlobSource } from './blob-source';
import { chooseModelFile } from './choose-file';

export interface LocalFilesOptions {
  readonly onWarning?: ((message: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A file by its path in the folder. */
interface LocalFile {
  readonly path: string;
  open(): Promise<File>;
}

/** A folder of a model has a hundred; a home folder that was dropped by mistake has more. */
const MAX_FILES = 10_000;
const MAX_DEPTH = 4;

/** @throws EngineError `STORAGE` when a handle's file is gone, or may not be read without asking the user again. */
export async function openLocalFile(file: Blob | FileSystemFileHandle, name: string): Promise<CheckpointFiles> {
  if (!('getFile' in file)) return createLoneFile(createBlobSource(file, name));
  try {
    return createLoneFile(createBlobSource(await file.getFile(), name));
  } catch (cause) {
    throw unreadable(name, '', cause);
  }
}

/**
 * @param name what to call the folder in messages.
 * @throws EngineError `BAD_ARGUMENT` (no model in it, too many files), `STORAGE` (it cannot be read), `ABORTED`.
 */
export async function openLocalFiles(
  folder: FileSystemDirectoryHandle | readonly File[],
  name: string,
  { onWarning, signal }: LocalFilesOptions = {},
): Promise<CheckpointFiles> {
  const listed = 'entries' in folder && 'kind' in folder ? await listFolder(folder, name, signal) : listFiles(folder);
  const files = new Map(listed.map((file) => [file.path, file]));
  // Sizes decide only between several GGUF files; a folder of safetensors is not opened file by file.
  const models = listed.filter(({ path }) => /\.gguf$/i.test(path));
  const sizes = new Map(
    await Promise.all(models.map(async (file) => [file.path, await readSize(file, name)] as const)),
  );
  const ggufPath = chooseModelFile(
    name,
    undefined,
    listed.map(({ path }) => ({ path, size: sizes.get(path) ?? 0 })),
    onWarning,
  );
  return {
    name,
    ggufPath,
    async find(path) {
      const file = files.get(path);
      if (!file) return null;
      try {
        return createBlobSource(await file.open(), path);
      } catch (cause) {
        throw unreadable(name, path, cause);
      }
    },
  };
}

async function readSize({ path, open }: LocalFile, name: string): Promise<number> {
  try {
    return (await open()).size;
  } catch (cause) {
    throw unreadable(name, path, cause);
  }
}

/** What an input element gives begins with the folder's own name; dropped files have a name alone. */
function listFiles(files: readonly File[]): LocalFile[] {
  const paths = files.map((file) => file.webkitRelativePath || file.name);
  const [first = ''] = paths;
  const top = first.slice(0, first.indexOf('/') + 1);
  const hasTop = top !== '' && paths.every((path) => path.startsWith(top));
  return files.map((file, i) => ({
    path: (paths[i] as string).slice(hasTop ? top.length : 0),
    open: async () => file,
  }));
}

async function listFolder(
  folder: FileSystemDirectoryHandle,
  name: string,
  signal: AbortSignal | undefined,
): Promise<LocalFile[]> {
  const files: LocalFile[] = [];
  const visit = async (handle: FileSystemDirectoryHandle, prefix: string, depth: number): Promise<void> => {
    for await (const [entryName, entry] of handle.entries()) {
      throwIfAborted(signal, `listing "${name}"`);
      const path = `${prefix}${entryName}`;
      if (entry.kind === 'directory') {
        if (depth < MAX_DEPTH) await visit(entry as FileSystemDirectoryHandle, `${path}/`, depth + 1);
        continue;
      }
      files.push({ path, open: () => (entry as FileSystemFileHandle).getFile() });
      if (files.length > MAX_FILES) {
        throw new EngineError(
          'BAD_ARGUMENT',
          `"${name}" has more than ${MAX_FILES} files; choose the folder of one model`,
        );
      }
    }
  };
  try {
    await visit(folder, '', 0);
  } catch (cause) {
    if (cause instanceof EngineError) throw cause;
    throw unreadable(name, '', cause);
  }
  return files;
}

function unreadable(name: string, path: string, cause: unknown): EngineError {
  const what = path === '' ? `"${name}"` : `"${path}" in "${name}"`;
  const isUnasked = cause instanceof DOMException && cause.name === 'NotAllowedError';
  const remedy = isUnasked
    ? 'ask for it in a click: handle.requestPermission(), or choose it again'
    : 'choose it again';
  return new EngineError('STORAGE', `${what} cannot be read (${String(cause)}); ${remedy}`, { cause });
}
