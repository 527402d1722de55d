import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readDocuments } from '../../../tools/documents.ts';

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webmoe-documents-'));
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function write(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

function line(source: string, ...contents: string[]): string {
  const messages = contents.map((content, at) => ({ role: at % 2 === 0 ? 'user' : 'assistant', content }));
  return `${JSON.stringify({ source, messages, more: 1 })}\n`;
}

test('a chat document has the source before the slash and the UTF-8 bytes of its contents alone', async () => {
  const path = await write('one.jsonl', line('talk/a/b', 'é', '🙂!'));
  expect(await readDocuments(path, 1)).toEqual([
    {
      place: `${path}, line 1`,
      source: 'talk',
      request: {
        messages: [
          { role: 'user', content: 'é' },
          { role: 'assistant', content: '🙂!' },
        ],
      },
      contentBytes: 7,
    },
  ]);
});

test('every Nth document begins with the first, also gzipped', async () => {
  const lines = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((source) => line(source, 'x')).join('');
  const path = await write('seven.jsonl.gz', gzipSync(lines));
  const documents = await readDocuments(path, 3);
  expect(documents.map(({ source }) => source)).toEqual(['a', 'd', 'g']);
  expect(documents.map(({ place }) => place.slice(-6))).toEqual(['line 1', 'line 4', 'line 7']);
});

test('any other file is one plain text, kept as it is', async () => {
  const text = '{"source": "a"}\r\n\n  é ';
  for (const [name, content] of [
    ['note.txt', text],
    ['note', text],
    ['note.txt.gz', gzipSync(text)],
  ] as const) {
    const [document, ...others] = await readDocuments(await write(name, content), 1);
    expect(document).toMatchObject({ source: name, request: { prompt: text }, contentBytes: Buffer.byteLength(text) });
    expect(others).toEqual([]);
  }
});

test.each([
  ['no JSON', '{', 'not JSON'],
  ['a list', '[]', 'source is not a text'],
  ['null', 'null', 'not a JSON object'],
  ['no source', '{"messages": [{"role": "user", "content": "a"}]}', 'source is not a text'],
  ['an empty source', line('/b', 'a').trim(), 'source is not a text'],
  ['no messages', '{"source": "a"}', 'messages is not a list'],
  ['an unknown role', '{"source": "a", "messages": [{"role": "tool", "content": "a"}]}', 'message 0 needs a role'],
  ['a content that is no text', '{"source": "a", "messages": [{"role": "user", "content": 1}]}', 'message 0 needs'],
  ['empty contents', line('a', '', '').trim(), 'every content is empty'],
])('refuses a line with %s, naming the line, also where it would be skipped', async (_, bad, message) => {
  const path = await write('bad.jsonl', `${line('a', 'x')}${bad}\n${line('a', 'x')}`);
  await expect(readDocuments(path, 2)).rejects.toMatchObject({
    code: 'BAD_FILE',
    message: expect.stringMatching(new RegExp(`bad\\.jsonl, line 2: ${message}`)),
  });
});

test('refuses a file that is missing, empty, cut short or not text', async () => {
  const cut = gzipSync(line('a', 'x'.repeat(99))).subarray(0, -12);
  const files: [string, string, RegExp][] = [
    [join(folder, 'missing.txt'), 'BAD_ARGUMENT', /missing\.txt.*does not exist/],
    [folder, 'BAD_ARGUMENT', /is the folder/],
    [await write('empty.jsonl', ''), 'BAD_FILE', /it is empty/],
    [await write('empty.txt', ''), 'BAD_FILE', /it is empty/],
    [await write('cut.jsonl.gz', cut), 'BAD_FILE', /cut\.jsonl\.gz: cannot be read/],
    [await write('fake.txt.gz', 'text'), 'BAD_FILE', /fake\.txt\.gz: cannot be read/],
    [await write('latin.txt', new Uint8Array([0x61, 0xe9, 0x61])), 'BAD_FILE', /not UTF-8/],
  ];
  for (const [path, code, message] of files) {
    await expect(readDocuments(path, 1), path).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  }
});
