import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { readSideFile } from '../../../src/store/side-file';

const answer = (body: BodyInit | null, init?: ResponseInit) => ({ fetch: async () => new Response(body, init) });
const bytes = Uint8Array.from({ length: 3000 }, (_, index) => index % 7);

test('a file is read whole, and unpacked where it is gzip', async () => {
  expect(await readSideFile('http://x/a', answer(bytes))).toEqual(bytes);
  expect(await readSideFile('http://x/a', answer(gzipSync(bytes)))).toEqual(bytes);
});

test('a file that is not there is null, also behind a server that answers with its page', async () => {
  expect(await readSideFile('http://x/a', answer(null, { status: 404 }))).toBeNull();
  const page = answer('<!doctype html>', { headers: { 'content-type': 'text/html; charset=utf-8' } });
  expect(await readSideFile('http://x/a', page)).toBeNull();
});

test('gzip that was cut short, and other answers, are errors that name the URL', async () => {
  await expect(readSideFile('http://x/a', answer(gzipSync(bytes).subarray(0, 20)))).rejects.toMatchObject({
    code: 'BAD_FILE',
    message: expect.stringContaining('http://x/a'),
  });
  const refusal = answer('<!doctype html>', { status: 403, headers: { 'content-type': 'text/html' } });
  await expect(readSideFile('http://x/a', refusal)).rejects.toMatchObject({ code: 'NETWORK' });
});
