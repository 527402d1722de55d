/**
 * A page of plain HTML over the installed package: an import map, README's code, no bundler. Owns the server and its headers,
 * which a test chooses.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';

const types: Readonly<Record<string, string>> = { '.js': 'text/javascript', '.html': 'text/html' };

export interface PlainPage {
  readonly url: string;
  stop(): void;
}

export interface PlainPageOptions {
  /** The package's dist/. */
  readonly dist: string;
  readonly modelPath: string;
  /** The page's script. */
  readonly script: string;
  /** Of every answer. `{importMap}` stands for the hash of the import map, as Content-Security-Policy wants it. */
  readonly headers: Readonly<Record<string, string>>;
}

export async function servePlainPage({ dist, modelPath, script, headers }: PlainPageOptions): Promise<PlainPage> {
  const importMap = JSON.stringify({ imports: { webmoe: '/webmoe/index.js' } });
  const html = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8"><title>Plain page</title>
    <script type="importmap">${importMap}</script>
    <script type="module" src="/main.js"></script>
  </head>
  <body></body>
</html>
`;
  const hash = `'sha256-${createHash('sha256').update(importMap).digest('base64')}'`;
  const sent = Object.entries(headers).map(([name, value]) => [name, value.replace('{importMap}', hash)] as const);
  // Once: it is asked for in many ranges.
  const model = await readFile(modelPath);
  const read = async (path: string): Promise<Uint8Array | string | null> => {
    if (path === '/') return html;
    if (path === '/main.js') return script;
    if (path.startsWith('/models/')) return model;
    if (path.startsWith('/webmoe/')) return readFile(join(dist, normalize(path.slice('/webmoe/'.length))));
    return null;
  };
  const server = createServer(async (request, response) => {
    const path = new URL(request.url ?? '/', 'http://localhost').pathname;
    const body = await read(path).catch(() => null);
    for (const [name, value] of sent) response.setHeader(name, value);
    if (body === null) {
      response.writeHead(path === '/favicon.ico' ? 204 : 404).end();
      return;
    }
    const bytes = Buffer.from(body);
    response.setHeader('Content-Type', types[path === '/' ? '.html' : extname(path)] ?? 'application/octet-stream');
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    if (first === undefined || last === undefined) {
      response.writeHead(200).end(bytes);
      return;
    }
    const end = Math.min(Number(last), bytes.length - 1);
    response.setHeader('Content-Range', `bytes ${first}-${end}/${bytes.length}`);
    response.writeHead(206).end(bytes.subarray(Number(first), end + 1));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    stop: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
