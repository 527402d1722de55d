/**
 * Builds the page that runs the engine and serves it, with the model file beside it, on a free loopback port.
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

/**
 * `modelFile`: the local file to serve at `route`, or undefined when the page reads a URL. `folder`: where under tools/
 * the page.html is.
 */
export async function servePage(
  modelFile: { route: string; path: string } | undefined,
  folder = 'engine-page',
): Promise<PageServer> {
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
      preview: { host: '127.0.0.1', port: 0 },
      plugins: [
        {
          name: 'webmoe-model-file',
          configurePreviewServer: ({ middlewares }) => {
            if (modelFile) middlewares.use(createFileRoute(modelFile.route, modelFile.path));
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
