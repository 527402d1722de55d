/**
 * A model hub on loopback with Hugging Face's routes: repository listing, `resolve` with a redirect to another origin, ETags,
 * CORS and ranges. Owns the log of requests and the bytes that left; what goes wrong is the tests' to say.
 * Never reaches the network, and never holds a file larger than memory: contents are functions of the offset.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { parseRange } from '../../tools/engine-page/file-route';

export interface HubFile {
  readonly sizeBytes: number;
  /** Any range of the file; pure. */
  read(offsetBytes: number, lengthBytes: number): Uint8Array;
  /** Changes with the content. Quoted, as in the header. */
  etag: string;
}

/** Files by path, of one commit. */
export type HubRepository = Readonly<Record<string, HubFile>>;

export interface HubOptions {
  /** By `owner/name`. */
  readonly repositories: Readonly<Record<string, HubRepository>>;
  /** All answers together; default: as fast as it goes. */
  readonly bytesPerSecond?: number;
  /** Requests of the hub without this token are refused with 401, as of a private repository. */
  readonly token?: string;
}

export interface HubRequest {
  readonly method: string;
  readonly path: string;
  /** Bytes that were asked for, the last one included; null for a request without a range. */
  readonly range: { readonly start: number; readonly end: number } | null;
  readonly authorization: string | null;
  /** When it came, by performance.now(). */
  readonly startMs: number;
  status: number;
  /** Of the body, handed to the socket so far. */
  sentBytes: number;
}

/** Answers a request instead of the hub, or, by returning false, leaves it to the hub. */
export type HubFault = (request: IncomingMessage, response: ServerResponse, entry: HubRequest) => boolean;

export interface Hub {
  /** Where the hub's routes are. */
  readonly url: string;
  /** Every request to the CDN, the origin that `resolve` redirects to, in order. */
  readonly requests: HubRequest[];
  /** Every request to the hub itself. */
  readonly hubRequests: HubRequest[];
  /** Asked for each request to the CDN; change it at any time. */
  fault: HubFault;
  /** The same for requests of the hub itself: listings and redirects. */
  hubFault: HubFault;
  bytesPerSecond: number;
  close(): Promise<void>;
}

interface ApiAnswer {
  readonly status: number;
  readonly body: string;
  readonly headers: Record<string, string>;
}

export const hubCommit = '0123456789abcdef0123456789abcdef01234567';

const PIECE_BYTES = 16 * 1024;

export function createHubFile(bytes: Uint8Array, etag = '"first"'): HubFile {
  return { sizeBytes: bytes.byteLength, read: (offset, length) => bytes.subarray(offset, offset + length), etag };
}

export async function startHub(options: HubOptions): Promise<Hub> {
  const cdn = createServer((request, response) => void answerFile(request, response));
  const api = createServer((request, response) => answerApi(request, response));
  const [cdnUrl, url] = await Promise.all([listen(cdn), listen(api)]);
  /** When the last byte that was promised will have left. */
  let freeAtMs = 0;

  const hub: Hub = {
    url,
    requests: [],
    hubRequests: [],
    fault: () => false,
    hubFault: () => false,
    bytesPerSecond: options.bytesPerSecond ?? Number.POSITIVE_INFINITY,
    async close() {
      await Promise.all([cdn, api].map(stop));
    },
  };

  async function answerFile(request: IncomingMessage, response: ServerResponse): Promise<void> {
    setCorsHeaders(response);
    if (request.method === 'OPTIONS') return void response.writeHead(204).end();
    const path = decodeURIComponent(new URL(request.url ?? '/', cdnUrl).pathname);
    const [, owner, name, ...rest] = path.split('/');
    const file = options.repositories[`${owner}/${name}`]?.[rest.join('/')];
    const range = file ? parseRange(request.headers.range, file.sizeBytes) : 'whole';
    const entry = note(hub.requests, request, path, typeof range === 'string' ? null : range);
    const closed = new Promise<void>((resolve) => {
      response.on('close', () => {
        entry.status = response.headersSent ? response.statusCode : 0;
        resolve();
      });
    });
    if (hub.fault(request, response, entry)) return;
    if (!file) return void response.writeHead(404).end('no such file');
    response.setHeader('ETag', file.etag);
    response.setHeader('Accept-Ranges', 'bytes');
    if (range === 'unsatisfiable') {
      return void response.writeHead(416, { 'Content-Range': `bytes */${file.sizeBytes}` }).end();
    }
    const { start, end } = range === 'whole' ? { start: 0, end: file.sizeBytes - 1 } : range;
    if (range !== 'whole') response.setHeader('Content-Range', `bytes ${start}-${end}/${file.sizeBytes}`);
    response.writeHead(range === 'whole' ? 200 : 206, { 'Content-Length': end - start + 1 });
    if (request.method === 'HEAD') return void response.end();
    for (let at = start; at <= end && !response.destroyed; at += PIECE_BYTES) {
      const piece = file.read(at, Math.min(PIECE_BYTES, end + 1 - at));
      await takeTurn(piece.byteLength);
      // The count comes first: what is in the socket may arrive whatever happens next.
      entry.sentBytes += piece.byteLength;
      if (response.write(piece)) continue;
      await Promise.race([closed, new Promise<void>((resolve) => response.once('drain', resolve))]);
    }
    response.end();
  }

  /** Waits for this many bytes' turn on the one line that all answers share. */
  async function takeTurn(bytes: number): Promise<void> {
    if (hub.bytesPerSecond === Number.POSITIVE_INFINITY) return;
    const nowMs = performance.now();
    freeAtMs = Math.max(freeAtMs, nowMs) + (bytes / hub.bytesPerSecond) * 1000;
    if (freeAtMs > nowMs) await wait(freeAtMs - nowMs);
  }

  function answerApi(request: IncomingMessage, response: ServerResponse): void {
    setCorsHeaders(response);
    if (request.method === 'OPTIONS') return void response.writeHead(204).end();
    const path = decodeURIComponent(new URL(request.url ?? '/', url).pathname);
    const entry = note(hub.hubRequests, request, path, null);
    if (hub.hubFault(request, response, entry)) return;
    const { status, body, headers } = getApiAnswer(path, request);
    entry.status = status;
    response.writeHead(status, headers).end(body);
  }

  function getApiAnswer(path: string, request: IncomingMessage): ApiAnswer {
    if (options.token !== undefined && request.headers.authorization !== `Bearer ${options.token}`) {
      return answer(401, { error: 'Invalid username or password.' });
    }
    const [, revisionName, revision] = /^\/api\/models\/([^/]+\/[^/]+)\/revision\/(.+)$/.exec(path) ?? [];
    if (revisionName) {
      if (!options.repositories[revisionName]) return answer(404, { error: 'Repository not found' });
      if (!isRevision(revision)) return answer(404, { error: `Invalid rev id: ${revision}` });
      return answer(200, { id: revisionName, _id: '1', sha: hubCommit, private: false, tags: [] });
    }
    const [, treeName, tree] = /^\/api\/models\/([^/]+\/[^/]+)\/tree\/(.+)$/.exec(path) ?? [];
    if (treeName) {
      const repository = options.repositories[treeName];
      if (!repository || !isRevision(tree)) return answer(404, { error: 'Repository not found' });
      const entries = Object.entries(repository).map(([file, { sizeBytes }]) => ({
        type: 'file',
        path: file,
        size: sizeBytes,
        oid: 'f'.repeat(40),
      }));
      return answer(200, entries);
    }
    const [, resolveName, resolved, file = ''] = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(path) ?? [];
    const found = resolveName && isRevision(resolved) ? options.repositories[resolveName]?.[file] : undefined;
    if (!found) {
      return answer(404, { error: 'Entry not found' }, { 'X-Error-Code': 'EntryNotFound' });
    }
    return answer(302, null, {
      Location: `${cdnUrl}${resolveName}/${file.split('/').map(encodeURIComponent).join('/')}?signature=1`,
      ETag: found.etag,
      'X-Linked-ETag': found.etag,
      'X-Linked-Size': String(found.sizeBytes),
      'X-Repo-Commit': hubCommit,
    });
  }

  return hub;
}

function isRevision(revision: string | undefined): boolean {
  return revision === 'main' || revision === 'HEAD' || revision === hubCommit;
}

function note(log: HubRequest[], request: IncomingMessage, path: string, range: HubRequest['range']): HubRequest {
  const entry: HubRequest = {
    method: request.method ?? '',
    path,
    range,
    authorization: request.headers.authorization ?? null,
    startMs: performance.now(),
    status: 0,
    sentBytes: 0,
  };
  log.push(entry);
  return entry;
}

function setCorsHeaders(response: ServerResponse): void {
  response.setHeader('Access-Control-Allow-Origin', '*');
  response.setHeader('Access-Control-Allow-Headers', 'Authorization, Range');
  response.setHeader(
    'Access-Control-Expose-Headers',
    'Accept-Ranges, Content-Range, ETag, Link, X-Error-Code, X-Linked-ETag, X-Linked-Size, X-Repo-Commit',
  );
}

function answer(status: number, json: unknown, headers: Record<string, string> = {}): ApiAnswer {
  if (json === null) return { status, body: '', headers };
  return { status, body: JSON.stringify(json), headers: { ...headers, 'Content-Type': 'application/json' } };
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
