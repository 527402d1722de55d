import { afterEach, describe, expect, it } from 'vitest';
import { inspectModel } from '../../../src/engine/inspect-model';
import { createHttpFiles } from '../../../src/store/http-files';
import { findHttpSource, type HttpSourceOptions, openHttpSource } from '../../../src/store/http-source';
import { readGoldenModel } from '../../golden';
import { createHubFile, type HubFault, startHub } from '../../hub/hub';
import { writeHfFolder } from '../checkpoint/hf-folder';
import { type FaultServer, getBytesAt, partial, reset, stall, startFaultServer, status, whole } from './fault-server';

const SIZE_BYTES = 100_000;
const FAST: HttpSourceOptions = { retryDelaysMs: [1, 1, 1] };

const servers: FaultServer[] = [];

async function start(sizeBytes = SIZE_BYTES): Promise<FaultServer> {
  const server = await startFaultServer(sizeBytes);
  servers.push(server);
  return server;
}

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

const network = (message: RegExp) =>
  expect.objectContaining({ name: 'EngineError', code: 'NETWORK', message: expect.stringMatching(message) });

describe('openHttpSource', () => {
  it('learns size and range support from one request and reads exact ranges', async () => {
    const server = await start();
    const source = await openHttpSource(server.url, FAST);
    expect(source).toMatchObject({ name: server.url, sizeBytes: SIZE_BYTES });
    expect(server.requests).toEqual(['GET bytes=0-1']);
    expect(await source.read(0, 10)).toEqual(getBytesAt(0, 10));
    expect(await source.read(SIZE_BYTES - 5, 5)).toEqual(getBytesAt(SIZE_BYTES - 5, 5));
    expect(await source.read(SIZE_BYTES, 0)).toEqual(new Uint8Array(0));
    expect(server.requests).toEqual(['GET bytes=0-1', 'GET bytes=0-9', 'GET bytes=99995-99999']);
  });

  it('reads beyond 4 GiB', async () => {
    const server = await start(5 * 2 ** 30);
    const source = await openHttpSource(server.url, FAST);
    expect(source.sizeBytes).toBe(5 * 2 ** 30);
    const offset = 2 ** 32 + 12_345;
    expect(await source.read(offset, 100)).toEqual(getBytesAt(offset, 100));
  });

  it('refuses a range outside the file without asking the server', async () => {
    const server = await start();
    const source = await openHttpSource(server.url, FAST);
    for (const [offset, length] of [
      [SIZE_BYTES, 1],
      [-1, 2],
      [0, -1],
      [0.5, 1],
      [2 ** 53, 1],
    ] as const) {
      await expect(source.read(offset, length)).rejects.toMatchObject({
        code: 'BAD_FILE',
        message: expect.stringMatching(/outside the file of 100000 bytes/),
      });
    }
    expect(server.requests).toHaveLength(1);
  });

  it('refuses what is not a URL, an empty file and an error status at once', async () => {
    await expect(openHttpSource('no url', FAST)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    const empty = await start(0);
    await expect(openHttpSource(empty.url, FAST)).rejects.toMatchObject({ code: 'BAD_FILE' });
    const tiny = await start(1);
    await expect(openHttpSource(tiny.url, FAST)).rejects.toMatchObject({ code: 'BAD_FILE' });
    const server = await start();
    server.script.push(status(404));
    await expect(openHttpSource(server.url, FAST)).rejects.toEqual(network(/127\.0\.0\.1.*status 404; check the URL/));
    expect(server.requests).toHaveLength(1);
  });

  it('asks by HEAD for a size that Content-Range leaves open', async () => {
    const server = await start();
    server.script.push(partial({ 'Content-Range': 'bytes 0-1/*' }, getBytesAt(0, 2)));
    const source = await openHttpSource(server.url, FAST);
    expect(source.sizeBytes).toBe(SIZE_BYTES);
    expect(server.requests).toEqual(['GET bytes=0-1', 'HEAD']);
  });

  it('works on another origin that exposes neither Content-Range nor ETag, and still checks lengths', async () => {
    const server = await start();
    // what a page sees of a cross-origin response without Access-Control-Expose-Headers
    const filteredFetch: typeof fetch = async (url, init) => {
      const real = await fetch(url, init);
      const headers = new Headers(real.headers);
      headers.delete('Content-Range');
      headers.delete('ETag');
      const filtered = new Response(real.body, { status: real.status, headers });
      return Object.defineProperty(filtered, 'type', { value: 'cors' });
    };
    const source = await openHttpSource(server.url, { ...FAST, fetch: filteredFetch });
    expect(source.sizeBytes).toBe(SIZE_BYTES);
    expect(await source.read(70_000, 50)).toEqual(getBytesAt(70_000, 50));
    server.script.push(partial({}, getBytesAt(0, 9)));
    await expect(source.read(0, 8)).rejects.toEqual(network(/a body of 8 bytes, got at least 9/));
  });

  it('is aborted by its signal', async () => {
    const server = await start();
    const signal = AbortSignal.abort();
    await expect(openHttpSource(server.url, { ...FAST, signal })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(server.requests).toHaveLength(0);
  });
});

describe('a ranged read', () => {
  it.each([
    ['an internal server error', status(500)],
    ['too many requests', status(429)],
    ['a reset connection', reset],
    ['a short body', partial({ 'Content-Range': `bytes 10-29/${SIZE_BYTES}` }, getBytesAt(10, 7))],
  ])('comes right at the second attempt after %s', async (_name, fault) => {
    const server = await start();
    const source = await openHttpSource(server.url, FAST);
    server.script.push(fault);
    expect(await source.read(10, 20)).toEqual(getBytesAt(10, 20));
    expect(server.requests).toHaveLength(3);
  });

  it('gives up after the bounded attempts and names URL, expected and got', async () => {
    const server = await start();
    const source = await openHttpSource(server.url, FAST);
    server.script.push(...Array(10).fill(status(503)));
    await expect(source.read(0, 8)).rejects.toEqual(
      network(/127\.0\.0\.1.*expected status 206, got status 503 \(attempts: 4\)/),
    );
    expect(server.requests).toHaveLength(5);
    server.script.splice(
      0,
      10,
      ...Array(4).fill(partial({ 'Content-Range': `bytes 0-7/${SIZE_BYTES}` }, getBytesAt(0, 3))),
    );
    await expect(source.read(0, 8)).rejects.toEqual(network(/expected a body of 8 bytes, got 3 \(attempts: 4\)/));
  });

  it.each([
    [
      'another range',
      { 'Content-Range': `bytes 1-8/${SIZE_BYTES}` },
      8,
      /Content-Range of "bytes 0-7\/.*got "bytes 1-8/,
    ],
    ['a long body', { 'Content-Range': `bytes 0-7/${SIZE_BYTES}` }, 9, /a body of 8 bytes, got at least 9/],
    [
      'another size',
      { 'Content-Range': 'bytes 0-7/99' },
      8,
      /changed.*size in bytes was 100000 at first and is 99 now/,
    ],
  ])('refuses %s at once', async (_name, headers, length, message) => {
    const server = await start();
    const source = await openHttpSource(server.url, FAST);
    server.script.push(partial(headers, getBytesAt(0, length)));
    await expect(source.read(0, 8)).rejects.toEqual(network(message));
    expect(server.requests).toHaveLength(2);
  });

  it('refuses the whole file instead of the range', async () => {
    const server = await start();
    const source = await openHttpSource(server.url, FAST);
    server.script.push(whole(SIZE_BYTES));
    await expect(source.read(0, 8)).rejects.toEqual(network(/expected status 206, got status 200/));
  });

  it('refuses bytes of another version of the file', async () => {
    const server = await start();
    const source = await openHttpSource(server.url, FAST);
    server.etag = '"second"';
    await expect(source.read(0, 8)).rejects.toEqual(
      network(/changed while.*ETag was "first" at first and is "second"/),
    );
  });

  it('gives up on a server that stalls twice', async () => {
    const server = await start();
    const source = await openHttpSource(server.url, { retryDelaysMs: [1, 1, 1], stallTimeoutMs: 400 });
    const fault = stall({ 'Content-Range': `bytes 0-7/${SIZE_BYTES}`, 'Content-Length': 8 });
    server.script.push(fault, fault);
    await expect(source.read(0, 8)).rejects.toEqual(network(/expected data, got nearly none for 0\.4 s.*attempts: 2/));
    server.script.push(fault);
    expect(await source.read(0, 8)).toEqual(getBytesAt(0, 8));
  });

  it('ends within the transfer and within a pause when it is aborted', async () => {
    const server = await start();
    const source = await openHttpSource(server.url, { retryDelaysMs: [60_000], stallTimeoutMs: 60_000 });
    for (const fault of [stall({ 'Content-Range': `bytes 0-7/${SIZE_BYTES}` }), status(500)]) {
      const controller = new AbortController();
      server.script.push(fault);
      const reading = source.read(0, 8, controller.signal);
      setTimeout(() => controller.abort(), 50);
      await expect(reading).rejects.toMatchObject({ code: 'ABORTED' });
    }
  });
});

describe('a server without ranges', () => {
  it('is warned about, downloaded whole once with progress, and read from then on', async () => {
    const server = await start();
    server.script.push(whole(SIZE_BYTES));
    const warnings: string[] = [];
    const done: number[] = [];
    const source = await openHttpSource(server.url, {
      ...FAST,
      onWarning: (message) => warnings.push(message),
      onProgress: ({ doneBytes, totalBytes }) => {
        expect(totalBytes).toBe(SIZE_BYTES);
        done.push(doneBytes);
      },
    });
    expect(warnings).toEqual([expect.stringMatching(/no range support.*downloaded before/)]);
    expect(done.at(-1)).toBe(SIZE_BYTES);
    expect(source).toMatchObject({ name: server.url, sizeBytes: SIZE_BYTES });
    expect(await source.read(99_000, 1000)).toEqual(getBytesAt(99_000, 1000));
    expect(server.requests).toHaveLength(1);
  });

  it('is downloaded again after a broken transfer, with progress that never goes back', async () => {
    const server = await start();
    server.script.push(whole(SIZE_BYTES, 60_000), whole(SIZE_BYTES));
    const done: number[] = [];
    const source = await openHttpSource(server.url, { ...FAST, onProgress: ({ doneBytes }) => done.push(doneBytes) });
    expect(await source.read(0, SIZE_BYTES)).toEqual(getBytesAt(0, SIZE_BYTES));
    expect(done).toEqual([...new Set(done)].sort((a, b) => a - b));
    expect(server.requests).toHaveLength(2);
  });
});

/** Answers as the function says, by the last part of the URL. */
const answering = (answer: (name: string) => Response): HttpSourceOptions => ({
  ...FAST,
  fetch: async (url) => answer(String(url).split('/').at(-1) ?? ''),
});
const page = (status: number, contentType = 'text/html; charset=utf-8') =>
  new Response('<!doctype html>', {
    status,
    headers: { 'Content-Type': contentType, 'Content-Range': 'bytes 0-1/15' },
  });

describe('a file that need not be there', () => {
  it.each([
    ['404', () => new Response(null, { status: 404 })],
    ['410', () => new Response(null, { status: 410 })],
    ['the page of an app', () => page(200)],
    ['the page of an app, by ranges', () => page(206, 'Text/HTML')],
  ])('is absent where the server answers %s', async (_name, answer) => {
    expect(await findHttpSource('http://x/chat_template.jinja', answering(answer))).toBeNull();
  });

  it.each([401, 403])('is not absent where the server refuses it with %i, page or not', async (code) => {
    await expect(
      findHttpSource(
        'http://x/config.json',
        answering(() => page(code)),
      ),
    ).rejects.toEqual(network(/the file needs a permission/));
  });
});

describe('a folder on a server that answers 403 for what it does not have', () => {
  const bucket = (...names: readonly string[]) =>
    createHttpFiles(
      'http://x/model/',
      answering(
        (name) => new Response(names.includes(name) ? '{}' : null, { status: names.includes(name) ? 200 : 403 }),
      ),
    );

  it('has no optional file that is refused while others are served', async () => {
    const files = bucket('config.json');
    expect(await files.find('config.json')).not.toBeNull();
    expect(await files.find('chat_template.jinja', undefined, true)).toBeNull();
  });

  it('is reported where a model is opened from it, once for each file that is refused, and 404 is not', async () => {
    const folder = await writeHfFolder(await readGoldenModel('e1k1-f32'));
    const files = Object.fromEntries([...folder].map(([path, bytes]) => [path, createHubFile(bytes)]));
    const hub = await startHub({ repositories: { 'some/model': files } });
    try {
      const source = { kind: 'url', url: `${hub.url}some/model/resolve/main/` } as const;
      expect((await inspectModel(source)).warnings).toEqual([]);
      const refused = ['tokenizer_config.json', 'chat_template.jinja'];
      const refuse: HubFault = (_request, response, { path }) => {
        if (!refused.some((name) => path.endsWith(name))) return false;
        response.writeHead(403).end();
        return true;
      };
      hub.fault = refuse;
      hub.hubFault = refuse;
      const report = await inspectModel(source);
      expect(report.warnings).toEqual(
        refused.map((name) => expect.stringMatching(`^${name} is refused by the server \\(status 403\\).*absent`)),
      );
      expect(report.hasChatTemplate).toBe(false);
    } finally {
      await hub.close();
    }
  });

  it('says that a permission is missing where a needed file is refused, and where nothing was served', async () => {
    const files = bucket('config.json');
    await expect(files.find('chat_template.jinja', undefined, true)).rejects.toEqual(network(/needs a permission/));
    await files.find('config.json');
    await expect(files.find('tokenizer.json')).rejects.toEqual(network(/needs a permission/));
  });
});
