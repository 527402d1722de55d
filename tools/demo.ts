/**
 * `npm run demo`: builds the chat demo and serves it on the loopback interface until it is stopped.
 * `-- --port N` takes exactly that port (0: any free one); without it the next free port from 5180 on.
 * A build and not a development server: one bundle is there at the first request, and no reload interrupts a chat.
 */
import { createServer } from 'node:net';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build, type PreviewServer, preview } from 'vite';
import { root } from './program.ts';
import { ToolError } from './tool-error.ts';

const host = '127.0.0.1';
const defaultPort = 5180;

export async function run(args: string[]): Promise<number> {
  const wanted = parsePort(args);
  if (wanted !== undefined && wanted !== 0) await assertFree(wanted);
  const { server, url } = await serveDemo(wanted);
  console.log(url);
  const signal = await new Promise<NodeJS.Signals>((resolve) => {
    process.once('SIGINT', resolve);
    process.once('SIGTERM', resolve);
  });
  await Promise.race([server.close(), new Promise((resolve) => setTimeout(resolve, 1000))]);
  return signal === 'SIGINT' ? 130 : 143;
}

/** @param wanted port; 0: any free one; undefined: the next free one from the usual one on. */
export async function serveDemo(wanted: number | undefined): Promise<{ server: PreviewServer; url: string }> {
  const configFile = join(root, 'vite.demo.config.ts');
  console.error('webmoe: building the demo');
  await build({ root: join(root, 'demo'), configFile, logLevel: 'error' });
  const port = wanted === 0 ? await findFreePort() : (wanted ?? defaultPort);
  const server = await preview({
    root: join(root, 'demo'),
    configFile,
    logLevel: 'error',
    preview: { host, port, strictPort: wanted !== undefined },
  });
  return { server, url: server.resolvedUrls?.local[0] ?? `http://${host}:${port}/` };
}

function parsePort(args: string[]): number | undefined {
  let text: string | undefined;
  try {
    text = parseArgs({ args, options: { port: { type: 'string' } } }).values.port;
  } catch (error) {
    throw new ToolError('BAD_ARGUMENT', `${(error as Error).message}; allowed: --port N`);
  }
  if (text === undefined) return undefined;
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65535) return port;
  throw new ToolError('BAD_ARGUMENT', `--port is "${text}"; allowed: 0 (any free port) to 65535`);
}

function listenOnce(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, host, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : port));
    });
  });
}

export function findFreePort(): Promise<number> {
  return listenOnce(0);
}

async function assertFree(port: number): Promise<void> {
  try {
    await listenOnce(port);
  } catch (cause) {
    throw new ToolError(
      'BAD_ARGUMENT',
      `--port ${port} cannot be used (${(cause as Error).message}); try another, or 0`,
      {
        cause,
      },
    );
  }
}
