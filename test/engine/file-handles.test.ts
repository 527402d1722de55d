/**
 * Handles of files and folders, as pickers and drops give them, through an engine: read where they are, copied where that was
 * asked for, and the same after they were kept in IndexedDB. Those of the origin private file system are of the same classes.
 */
import { createStore, del, get, set } from 'idb-keyval';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { LoadOptions, ModelSource } from '../../src/engine/engine';
import { createLocalEngine } from '../../src/engine/local-engine';
import { createMemoryStore } from '../../src/store/memory-store';
import { readGoldenModel } from '../golden';
import { writeHfFolder } from '../unit/checkpoint/hf-folder';
import { generate, toBits } from './engine-session';
import { sharedGpu } from './shared-gpu';

const NAME = 'e16k4-bf16';
const FOLDER = 'webmoe-test-handles';
const kept = () => createStore(FOLDER, 'handles');

let root: FileSystemDirectoryHandle;
let gguf: Uint8Array<ArrayBuffer>;
beforeEach(async () => {
  root = await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });
  gguf = await readGoldenModel(NAME);
});
afterEach(async () => {
  await (await navigator.storage.getDirectory()).removeEntry(FOLDER, { recursive: true });
});

async function writeFile(folder: FileSystemDirectoryHandle, name: string, bytes: Uint8Array): Promise<void> {
  const writable = await (await folder.getFileHandle(name, { create: true })).createWritable();
  await writable.write(bytes as Uint8Array<ArrayBuffer>);
  await writable.close();
}

/** A handle as the next visit has it. */
async function keep<T extends FileSystemHandle>(handle: T): Promise<T> {
  await set('handle', handle, kept());
  const again = await get<T>('handle', kept());
  await del('handle', kept());
  if (!again) throw new Error('the handle was not kept');
  return again;
}

/** The bits of an answer at half of the experts, and what was stored for it. */
async function answer(source: ModelSource, options: LoadOptions) {
  const store = createMemoryStore();
  const engine = createLocalEngine({ gpu: sharedGpu, openStore: async () => store });
  const warnings: string[] = [];
  await engine.load(source, { expertBudget: { percent: 50 }, ...options }, (progress) => {
    if (progress.phase === 'warning') warnings.push(progress.message);
  });
  const request = { tokenIds: [5, 9, 31, 77], maxTokens: 8, ignoreEos: true, topLogprobs: 3 };
  const { result } = await generate(engine, request);
  await engine.unload();
  return { bits: toBits(result.logprobs), stored: (await store.readModels()).length, warnings };
}

it('a file handle, a folder of several GGUF files and a folder of safetensors are read where they are, also once kept', async () => {
  await writeFile(root, `${NAME}.gguf`, gguf);
  const several = await root.getDirectoryHandle('several', { create: true });
  await writeFile(several, 'm-BF16.gguf', gguf);
  await writeFile(several, 'm-F32.gguf', gguf.slice(0, 100));
  const shards = await root.getDirectoryHandle('safetensors', { create: true });
  for (const [path, bytes] of await writeHfFolder(gguf, 2)) await writeFile(shards, path, bytes);

  const expected = await answer({ kind: 'file', file: new Blob([gguf]), name: NAME }, {});
  expect(expected.stored).toBe(0);
  const file = await root.getFileHandle(`${NAME}.gguf`);
  const sources: ModelSource[] = [
    { kind: 'file', file, name: file.name },
    { kind: 'file', file: await keep(file), name: file.name },
    { kind: 'folder', folder: several, name: several.name },
    { kind: 'folder', folder: await keep(shards), name: shards.name },
  ];
  for (const source of sources) {
    const { bits, stored, warnings } = await answer(source, {});
    expect(bits, JSON.stringify(source)).toEqual(expected.bits);
    expect(stored).toBe(0);
    expect(warnings.filter((message) => message.includes('is used'))).toHaveLength(
      source.kind === 'folder' && source.folder === several ? 1 : 0,
    );
  }
  const copied = await answer({ kind: 'folder', folder: shards, name: shards.name }, { store: 'memory', copy: true });
  expect(copied).toMatchObject({ bits: expected.bits, stored: 1 });
});

it('a handle whose file is gone is a coded error', async () => {
  await writeFile(root, 'gone.gguf', gguf);
  const file = await root.getFileHandle('gone.gguf');
  await root.removeEntry('gone.gguf');
  await expect(answer({ kind: 'file', file, name: file.name }, {})).rejects.toMatchObject({
    code: 'STORAGE',
    message: expect.stringMatching(/"gone\.gguf" cannot be read \(NotFoundError.*choose it again/),
  });
});
