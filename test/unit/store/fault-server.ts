/** A file server on loopback that answers ranges correctly until a test scripts a fault for a request. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export type Fault = (request: IncomingMessage, response: ServerResponse) => void;

export interface FaultServer {
  readonly url: string;
  /** Method and Range header of every request so far. */
  readonly requests: string[];
  /** Faults for the requests to come, first come first served; undefined answers correctly. */
  readonly script: (Fault | undefined)[];
  etag: string;
  close(): Promise<void>;
}

/** Byte of the served file at an offset; files may be larger than memory. */
export function getByteAt(offset: number): number {
  return (Math.floor(offset / 251) * 7 + offset) % 256;
}

export function getBytesAt(offset: number, length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => getByteAt(offset + i));
}

/** Serves a file of so many bytes of `getByteAt`, or the bytes given. */
export async function startFaultServer(content: number | Uint8Array): Promise<FaultServer> {
  const sizeBytes = typeof content === 'number' ? content : content.byteLength;
  const getContent = (offset: number, length: number) =>
    typeof content === 'number' ? getBytesAt(offset, length) : content.subarray(offset, offset + length);
  const requests: string[] = [];
  const script: (Fault | undefined)[] = [];
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.headers.range ?? ''}`.trim());
    const fault = script.shift();
    if (fault) return fault(request, response);
    response.setHeader('ETag', faultServer.etag);
    const match = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    if (!match) {
      response.writeHead(200, { 'Content-Length': sizeBytes });
      response.end(request.method === 'HEAD' ? undefined : getContent(0, sizeBytes));
      return;
    }
    const first = Number(match[1]);
    const last = Math.min(Number(match[2]), sizeBytes - 1);
    if (first >= sizeBytes) {
      response.writeHead(416, { 'Content-Range': `bytes */${sizeBytes}` }).end();
      return;
    }
    response.writeHead(206, {
      'Content-Range': `bytes ${first}-${last}/${sizeBytes}`,
      'Content-Length': last - first + 1,
    });
    response.end(getContent(first, last - first + 1));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const faultServer: FaultServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/model.gguf`,
    requests,
    script,
    etag: '"first"',
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return faultServer;
}

export const status =
  (code: number): Fault =>
  (_request, response) => {
    response.writeHead(code).end('an error page');
  };

export const reset: Fault = (request) => {
  request.socket.destroy();
};

/** 206 with chosen headers and body, whatever was asked for. */
export const partial =
  (headers: Record<string, string | number>, body: Uint8Array): Fault =>
  (_request, response) => {
    response.writeHead(206, headers).end(body);
  };

/** The whole file, as servers without range support answer; `sentBytes` cuts the connection after so many. */
export const whole =
  (sizeBytes: number, sentBytes = sizeBytes): Fault =>
  (_request, response) => {
    response.writeHead(200, { 'Content-Length': sizeBytes });
    if (sentBytes === sizeBytes) response.end(getBytesAt(0, sizeBytes));
    else response.write(getBytesAt(0, sentBytes), () => response.socket?.destroy());
  };

/** Headers and the first byte, then nothing. */
export const stall =
  (headers: Record<string, string | number>): Fault =>
  (_request, response) => {
    response.writeHead(206, headers);
    response.write(getBytesAt(0, 1));
  };
