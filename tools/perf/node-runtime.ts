/**
 * The bench in this process, over Dawn's bindings: for machines with a GPU and no browser.
 * Modules come through Vite, which knows the shaders' `?raw` imports.
 */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { createServer } from 'vite';
import type { FoundModel } from '../engine-page/model-file.ts';
import { root } from '../program.ts';
import { ToolError } from '../tool-error.ts';
import type * as BenchModule from './bench.ts';
import type { Bench } from './protocol.ts';

/** @throws ToolError `NO_WEBGPU` with what to do, and what `use` throws. */
export async function withNodeBench<T>({ files }: FoundModel, use: (bench: Bench) => Promise<T>): Promise<T> {
  const gpu = await openDawn();
  const server = await createServer({
    root,
    configFile: false,
    server: { middlewareMode: true, hmr: false, ws: false },
    appType: 'custom',
    logLevel: 'error',
    optimizeDeps: { noDiscovery: true },
  });
  try {
    const { createBench } = (await server.ssrLoadModule('/tools/perf/bench.ts')) as typeof BenchModule;
    const [modelPath, taughtPath] = ['.gguf', '.forecast.gz'].map(
      (ending) => files.find(({ path }) => path.endsWith(ending))?.path ?? '',
    ) as [string, string];
    const file = new Blob([await readFile(modelPath)]);
    // No server here: the file goes into its URL.
    const taughtUrl = `data:application/octet-stream;base64,${await readFile(taughtPath, 'base64')}`;
    const source = { kind: 'file', file, name: basename(modelPath) } as const;
    return await use(createBench({ gpu, source, forecast: { taughtUrl } }));
  } finally {
    await server.close();
  }
}

async function openDawn(): Promise<GPU> {
  let dawn: typeof import('webgpu');
  try {
    dawn = await import('webgpu');
  } catch (cause) {
    throw new ToolError(
      'NO_WEBGPU',
      `the npm package webgpu (Dawn's bindings) does not load on this machine: ${(cause as Error).message}; use --runtime browser`,
      { cause },
    );
  }
  Object.assign(globalThis, dawn.globals);
  // Without this toggle Dawn hides timestamp queries and subgroups of software adapters.
  const gpu = dawn.create(['enable-dawn-features=allow_unsafe_apis']);
  if (!(await gpu.requestAdapter({ powerPreference: 'high-performance' }))) {
    throw new ToolError(
      'NO_WEBGPU',
      "Dawn's bindings found 0 adapters, 1 is needed: install the GPU's driver, name a Vulkan driver in " +
        'VK_ICD_FILENAMES, or use --runtime browser',
    );
  }
  return gpu;
}
