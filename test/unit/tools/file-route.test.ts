import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createFileRoute, parseRange } from '../../../tools/engine-page/file-route.ts';

let server: Server;
let folder: string;
let base: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'webmoe-route-'));
  writeFileSync(join(folder, 'a.bin'), '0123456789');
  const route = createFileRoute('/model/a.bin', join(folder, 'a.bin'));
  server = createServer((request, response) => {
    void route(request, response, () => response.writeHead(404).end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true });
});

test('a range is answered with 206, its bytes and where they are from', async () => {
  const response = await fetch(`${base}/model/a.bin`, { headers: { Range: 'bytes=2-4' } });
  expect([response.status, response.headers.get('content-range'), await response.text()]).toEqual([
    206,
    'bytes 2-4/10',
    '234',
  ]);
});

test('without a range the whole file is answered, and HEAD has its size', async () => {
  expect(await (await fetch(`${base}/model/a.bin`)).text()).toBe('0123456789');
  const head = await fetch(`${base}/model/a.bin`, { method: 'HEAD' });
  expect([head.status, head.headers.get('content-length'), head.headers.get('accept-ranges')]).toEqual([
    200,
    '10',
    'bytes',
  ]);
});

test('a range behind the end is answered with 416 and the size', async () => {
  const response = await fetch(`${base}/model/a.bin`, { headers: { Range: 'bytes=10-' } });
  expect([response.status, response.headers.get('content-range')]).toEqual([416, 'bytes */10']);
});

test('no other path and no other method is served', async () => {
  expect((await fetch(`${base}/model/b.bin`)).status).toBe(404);
  expect((await fetch(`${base}/model/a.bin`, { method: 'POST' })).status).toBe(405);
});

test.each([
  [undefined, 'whole'],
  ['bytes=0-', { start: 0, end: 9 }],
  ['bytes=5-99', { start: 5, end: 9 }],
  ['bytes=-3', { start: 7, end: 9 }],
  ['bytes=-30', { start: 0, end: 9 }],
  ['bytes=-0', 'unsatisfiable'],
  ['bytes=4-2', 'whole'],
  ['bytes=0-1,3-4', 'whole'],
  ['lines=0-1', 'whole'],
])('the range %s of ten bytes is %o', (header, range) => {
  expect(parseRange(header, 10)).toEqual(range);
});
