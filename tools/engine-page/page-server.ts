/**
 * Builds the page that runs the engine and serves it, with the model's files beside it, on a free loopback port.
 * Never serves the repository or the model's folder.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build, preview } from 'vite';
import { root } from '../program.ts';
import { createFileRoute } from './file-route.ts';

/** Where the page finds a local model. Its last part is the file's own name, which messages show. */
export function getModelRoute(fileName: string): string {
  return `/model/${encodeURIComponent(fileName)}`;
}

export interface PageServer {
  readonly port: number;
  close(): Promise<void>;
}

/** A local file that the page finds at `route`. */
export interface ServedFile {
  readonly route: string;
  readonly path: string;
}

/** What isolates a page, so that its workers may share memory, and its clock is fine. */
const isolation = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

/** `folder`: where under tools/ the page.html is. */
export async function servePage(
  files: readonly ServedFile[],
  folder = 'engine-page',
  isIsolated = false,
): Promise<PageServer> {
  const headers: Record<string, string> = isIsolated ? isolation : {};
  const pageRoot = join(root, 'tools', folder);
  const outDir = await mkdtemp(join(tmpdir(), 'webmoe-page-'));
  const removeOutDir = () => rm(outDir, { recursive: true, force: true });
  try {
    const common = { root: pageRoot, configFile: false, publicDir: false, logLevel: 'error' } as const;
    const input = join(pageRoot, 'page.html');
    await build({
      ...common,
      worker: { format: 'es' },
      build: { outDir, emptyOutDir: false, target: 'es2023', minify: false, rollupOptions: { input } },
    });
    const server = await preview({
      ...common,
      build: { outDir },
      preview: { host: '127.0.0.1', port: 0, headers },
      plugins: [
        {
          name: 'webmoe-model-files',
          configurePreviewServer: ({ middlewares }) => {
            // Also of these files: a worker's own script has to be isolated as its page is.
            middlewares.use((_, response, next) => {
              for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
              next();
            });
            for (const { route, path } of files) middlewares.use(createFileRoute(route, path));
            // Vite answers any other path with a page: a folder's missing file has to be missing.
            middlewares.use('/model/', (_, response) => response.writeHead(404).end());
          },
        },
      ],
    });
    const close = async () => {
      await server.close();
      await removeOutDir();
    };
    return { port: (server.httpServer.address() as AddressInfo).port, close };
  } catch (error) {
    await removeOutDir();
    throw error;
  }
}
