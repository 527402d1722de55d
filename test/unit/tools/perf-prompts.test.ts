import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readPrompts } from '../../../tools/perf/prompt-file.ts';
import { ladderPrompts } from '../../../tools/perf/prompts.ts';

let folder: string;
let path: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webmoe-prompts-'));
  path = join(folder, 'chats.jsonl');
  const firsts = ['a', 'b', 'b', 'c', 'd', 'e', 'f'].map((content) => ({ role: 'user', content }));
  const documents = [...firsts, { role: 'assistant', content: 'g' }].map((first) => ({
    source: 'talk',
    messages: [first, { role: 'assistant', content: 'An answer.' }],
  }));
  await writeFile(path, documents.map((document) => JSON.stringify(document)).join('\n'));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

test("the tool's own prompts each have a seed", async () => {
  expect(await readPrompts(null)).toEqual(ladderPrompts.map(({ text }, seed) => ({ text, seed })));
});

test('first messages of users are taken once each, evenly spread over the file', async () => {
  expect(await readPrompts({ path, count: 3 })).toEqual([
    { text: 'a', seed: 0 },
    { text: 'c', seed: 1 },
    { text: 'e', seed: 2 },
  ]);
});

test('more prompts than the file has, or no file, are refused', async () => {
  await expect(readPrompts({ path, count: 7 })).rejects.toMatchObject({
    code: 'BAD_FILE',
    message: expect.stringContaining('6 first messages that differ, --prompt-count 7'),
  });
  await expect(readPrompts({ path: `${path}x`, count: 1 })).rejects.toMatchObject({
    code: 'BAD_ARGUMENT',
    message: expect.stringContaining('--prompts is'),
  });
});
