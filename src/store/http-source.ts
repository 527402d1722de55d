/**
 * A model file on a web server as a byte source, read by HTTP ranges.
 * Trusts no answer: status, range, length and version of every response are checked. Never caches and never stores.
 */
import type { ByteSource } from '../checkpoint/byte-source';
import { assert, EngineError } from '../errors';
import { createBlobSource } from './blob-source';
import {
  type Answer,
  createExchange,
  type Exchange,
  type ExchangeOptions,
  isFallbackPage,
  TransientFailure,
} from './http-exchange';
import { checkRead } from './source-checks';

export interface HttpSourceOptions extends ExchangeOptions {
  /** Aborts the opening (and a sequential download); a later read takes its own signal. */
  readonly signal?: AbortSignal | undefined;
  /** Told when the server has no ranges and the file is therefore downloaded whole before its first use. */
  readonly onWarning?: ((message: string) => void) | undefined;
  /** Progress of such a whole download, where the server says how long the file is. */
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
}

export interface DownloadProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** What tells one version of a file from another. */
interface FileVersion {
  readonly sizeBytes: number;
  readonly etag: string | null;
  readonly lastModified: string | null;
}

/**
 * What the first request asks for. Two bytes: the server behind Vite's development and preview servers (sirv 3) takes
 * the end 0 of `bytes=0-0` for no end and answers the whole file.
 */
const PROBE_BYTES = 2;

/** Parts of a sequential download become Blobs of this size, which browsers can move to disk. */
const BLOB_PART_BYTES = 8 * 1024 * 1024;

/**
 * Opens a model file by URL with one ranged request.
 * A server that ignores ranges is warned about and its answer is downloaded whole, into a Blob.
 * @throws EngineError `NETWORK`, `BAD_ARGUMENT` (not a URL), `BAD_FILE` (a file of 0 or 1 byte), `ABORTED`.
 */
export async function openHttpSource(url: string, options: HttpSourceOptions = {}): Promise<ByteSource> {
  const source = await open(url, options, null);
  assert(source, `${url} was opened or refused`);
  return source;
}

/** Statuses of a file that is not there. */
const MISSING = [404, 410];

/**
 * As `openHttpSource`, or null where the server has no such file: 404, 410, or the page of an app instead of a file.
 * @param isAlsoMissing what else says so.
 */
export function findHttpSource(
  url: string,
  options: HttpSourceOptions = {},
  isAlsoMissing: (response: Response) => boolean = () => false,
): Promise<ByteSource | null> {
  const isMissing = (response: Response): boolean =>
    MISSING.includes(response.status) || isFallbackPage(response) || isAlsoMissing(response);
  return open(url, options, isMissing);
}

/** @param isMissing tells the answer for a file that is not there; null: it has to be. */
async function open(
  url: string,
  options: HttpSourceOptions,
  isMissing: ((response: Response) => boolean) | null,
): Promise<ByteSource | null> {
  if (!URL.canParse(url, globalThis.location?.href)) {
    throw new EngineError('BAD_ARGUMENT', `model URL "${url}" cannot be parsed; give an http(s) URL of a model file`);
  }
  const exchange = createExchange(url, options);
  let reportedBytes = 0;
  const opened = await exchange.send(
    { headers: { Range: `bytes=0-${PROBE_BYTES - 1}` } },
    options.signal,
    async (answer) => {
      const { response } = answer;
      if (isMissing?.(response)) return null;
      if (response.status === 206) {
        const version = getVersion(response);
        if (version.sizeBytes === 1) throw new EngineError('BAD_FILE', `${url} has 1 byte; it is no model file`);
        checkContentRange(answer, 0, PROBE_BYTES - 1);
        await answer.readExactly(PROBE_BYTES);
        return version;
      }
      if (response.status === 200) {
        options.onWarning?.(
          `${url}: the server has no range support, so the whole file is downloaded before it is read`,
        );
        return downloadWhole(url, answer, (progress) => {
          // a retried download starts over; what the caller sees never goes back
          if (progress.doneBytes <= reportedBytes) return;
          reportedBytes = progress.doneBytes;
          options.onProgress?.(progress);
        });
      }
      if (response.status === 416) throw new EngineError('BAD_FILE', `${url} is empty (0 bytes); it is no model file`);
      throw answer.refuse('status 206 or 200');
    },
  );
  if (opened === null) return null;
  if (opened instanceof Blob) return createBlobSource(opened, url);
  const version = opened.sizeBytes >= 0 ? opened : await readVersionByHead(url, exchange, options.signal);
  return createRangeSource(url, version, exchange);
}

function createRangeSource(url: string, version: FileVersion, exchange: Exchange): ByteSource {
  const source: ByteSource = {
    name: url,
    sizeBytes: version.sizeBytes,
    version: version.etag ?? version.lastModified ?? '',
    isRemote: true,
    async read(offsetBytes, lengthBytes, signal) {
      checkRead(source, offsetBytes, lengthBytes, signal);
      if (lengthBytes === 0) return new Uint8Array(0);
      const lastByte = offsetBytes + lengthBytes - 1;
      return exchange.send({ headers: { Range: `bytes=${offsetBytes}-${lastByte}` } }, signal, async (answer) => {
        if (answer.response.status !== 206) throw answer.refuse('status 206');
        checkSameVersion(url, version, getVersion(answer.response));
        checkContentRange(answer, offsetBytes, lastByte);
        return answer.readExactly(lengthBytes);
      });
    },
  };
  return source;
}

/** Cross-origin, a page sees Content-Range only where the server exposes it; lengths are still checked then. */
function checkContentRange(answer: Answer, firstByte: number, lastByte: number): void {
  const { response } = answer;
  const header = response.headers.get('Content-Range');
  if (header === null && response.type === 'cors') return;
  const expected = `bytes ${firstByte}-${lastByte}/`;
  if (!header?.startsWith(expected)) {
    throw answer.refuse(`a Content-Range of "${expected}..."`, header === null ? 'none' : `"${header}"`);
  }
}

/** Version from a 206; `sizeBytes` is -1 where the response does not tell. */
function getVersion(response: Response): FileVersion {
  const total = /^bytes \d+-\d+\/(\d+)$/.exec(response.headers.get('Content-Range') ?? '')?.[1];
  return {
    sizeBytes: total === undefined ? -1 : Number(total),
    etag: response.headers.get('ETag'),
    lastModified: response.headers.get('Last-Modified'),
  };
}

function checkSameVersion(url: string, first: FileVersion, now: FileVersion): void {
  const changed = (what: string, a: unknown, b: unknown) =>
    new EngineError(
      'NETWORK',
      `${url} changed while it was being read: ${what} was ${a} at first and is ${b} now; start the install again`,
    );
  if (now.sizeBytes >= 0 && now.sizeBytes !== first.sizeBytes) {
    throw changed('its size in bytes', first.sizeBytes, now.sizeBytes);
  }
  if (first.etag !== null && now.etag !== null) {
    if (first.etag !== now.etag) throw changed('its ETag', first.etag, now.etag);
  } else if (first.lastModified !== null && now.lastModified !== null && first.lastModified !== now.lastModified) {
    throw changed('its Last-Modified', first.lastModified, now.lastModified);
  }
}

async function readVersionByHead(
  url: string,
  exchange: Exchange,
  signal: AbortSignal | undefined,
): Promise<FileVersion> {
  return exchange.send({ method: 'HEAD' }, signal, async (answer) => {
    if (answer.response.status !== 200) throw answer.refuse('status 200 for HEAD');
    const header = answer.response.headers.get('Content-Length');
    if (header === null || !/^\d+$/.test(header)) {
      throw new EngineError(
        'NETWORK',
        `${url}: the server tells the file size neither in Content-Range nor in Content-Length ` +
          '(expected a number of bytes, got none); let it expose Content-Range (Access-Control-Expose-Headers)',
      );
    }
    return { ...getVersion(answer.response), sizeBytes: Number(header) };
  });
}

async function downloadWhole(
  url: string,
  answer: Answer,
  onProgress: (progress: DownloadProgress) => void,
): Promise<Blob> {
  const { headers } = answer.response;
  // with a content coding, Content-Length counts coded bytes
  const header = headers.get('Content-Encoding') === null ? headers.get('Content-Length') : null;
  const totalBytes = header === null ? null : Number(header);
  const blobs: Blob[] = [];
  let part: Uint8Array<ArrayBuffer>[] = [];
  let partBytes = 0;
  let doneBytes = 0;
  for await (const chunk of answer.readChunks()) {
    part.push(chunk);
    partBytes += chunk.byteLength;
    doneBytes += chunk.byteLength;
    if (partBytes >= BLOB_PART_BYTES) {
      blobs.push(new Blob(part));
      part = [];
      partBytes = 0;
    }
    if (totalBytes !== null && doneBytes <= totalBytes) onProgress({ doneBytes, totalBytes });
  }
  if (totalBytes !== null && doneBytes !== totalBytes) {
    throw new TransientFailure(`${url}: expected ${totalBytes} bytes, got ${doneBytes}`);
  }
  return new Blob([...blobs, ...part]);
}
