import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkOutputPath, writeOutputFile } from '../../../tools/output-file.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webmoe-output-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

test('an older file is replaced, and nothing else is left', async () => {
  const path = join(folder, 'a.bin');
  await writeFile(path, 'older');
  await checkOutputPath(path, '--out');
  await writeOutputFile(path, new Uint8Array([1, 2]));
  expect([...(await readFile(path))]).toEqual([1, 2]);
  expect(await readdir(folder)).toEqual(['a.bin']);
});

test('a path where no file can be put is refused by its flag', async () => {
  for (const path of [join(folder, 'no', 'a.bin'), folder]) {
    const refused = { code: 'BAD_ARGUMENT', message: expect.stringContaining(`--out is "${path}": `) };
    await expect(checkOutputPath(path, '--out'), path).rejects.toMatchObject(refused);
  }
});

test('a file that cannot be written is one error, and no part of it is left', async () => {
  const path = join(folder, 'taken');
  await mkdir(join(path, 'by-a-folder'), { recursive: true });
  const failed = { code: 'STORAGE', message: expect.stringMatching(/taken could not be written \(.+\); make room/) };
  await expect(writeOutputFile(path, 'text')).rejects.toMatchObject(failed);
  expect(await readdir(folder)).toEqual(['taken']);
});
