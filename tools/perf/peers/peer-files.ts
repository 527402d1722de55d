/**
 * What the page needs to run other runtimes: their own files as npm installed them, and the model as an ONNX file that is
 * made for a run and removed behind it. Never fetches anything.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ServedFile } from '../../engine-page/page-server.ts';
import { root } from '../../program.ts';
import { convertToOnnx } from './olmoe-onnx.ts';
import { type PeerShape, peerRoute } from './peer-protocol.ts';

/** By the name in `peerRoute`: package, and path in its folder. */
const packageFiles = {
  'ort.webgpu.min.mjs': ['onnxruntime-web', 'dist/ort.webgpu.min.mjs'],
  'ort.wasm.min.mjs': ['onnxruntime-web', 'dist/ort.wasm.min.mjs'],
  'ort-wasm-simd-threaded.mjs': ['onnxruntime-web', 'dist/ort-wasm-simd-threaded.mjs'],
  'ort-wasm-simd-threaded.wasm': ['onnxruntime-web', 'dist/ort-wasm-simd-threaded.wasm'],
  'ort-wasm-simd-threaded.asyncify.mjs': ['onnxruntime-web', 'dist/ort-wasm-simd-threaded.asyncify.mjs'],
  'ort-wasm-simd-threaded.asyncify.wasm': ['onnxruntime-web', 'dist/ort-wasm-simd-threaded.asyncify.wasm'],
  'wllama.js': ['@wllama/wllama', 'esm/index.js'],
  'wllama.wasm': ['@wllama/wllama', 'esm/wasm/wllama.wasm'],
} as const;

export interface PeerFiles {
  readonly files: readonly ServedFile[];
  readonly shape: PeerShape;
  /** Versions by package. */
  readonly versions: Readonly<Record<string, string>>;
}

/** @param modelPath the GGUF file. */
export async function withPeerFiles<T>(modelPath: string, use: (peers: PeerFiles) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'webmoe-peers-'));
  try {
    const { file, shape } = await convertToOnnx(modelPath, await readFile(modelPath));
    const onnxPath = join(folder, 'model.onnx');
    await writeFile(onnxPath, file);
    const own = Object.entries(packageFiles).map(([name, [packageName, path]]) => ({
      route: peerRoute + name,
      path: join(findFolder(packageName), path),
    }));
    const packages = [...new Set(Object.values(packageFiles).map(([packageName]) => packageName))];
    return await use({
      files: [...own, { route: `${peerRoute}model.onnx`, path: onnxPath }],
      shape,
      versions: Object.fromEntries(await Promise.all(packages.map(async (name) => [name, await readVersion(name)]))),
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function findFolder(packageName: string): string {
  return join(root, 'node_modules', packageName);
}

async function readVersion(packageName: string): Promise<string> {
  return JSON.parse(await readFile(join(findFolder(packageName), 'package.json'), 'utf8')).version;
}
