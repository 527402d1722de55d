/**
 * Owns the library build: ES modules, one per entry of package.json, and workers as files of their own. What they need is
 * bundled with them: a worker knows no import map, and a page no bare names (docs/decisions/0019). onnxruntime-web alone
 * stays a package: it finds its WebAssembly beside itself.
 * The demo has vite.demo.config.ts; declarations come from tsconfig.build.json.
 */
import { readFileSync } from 'node:fs';
import { defineConfig, type Plugin } from 'vite';
import { browserXgrammar } from './tools/build/browser-xgrammar.ts';
import { plainShaders } from './tools/build/plain-shaders.ts';
import { thirdPartyLicenses } from './tools/build/third-party-licenses.ts';

const { dependencies, peerDependencies } = JSON.parse(readFileSync(new URL('./package.json', import.meta.url), 'utf8'));
const external = Object.keys({ ...dependencies, ...peerDependencies }).map((name) => new RegExp(`^${name}(/|$)`));

/** Each worker's URL as it stands in one module of src/, what stands for it meanwhile, and the URL of the built file. */
const workers = [
  { source: `new URL('../worker/worker.ts', import.meta.url)`, placeholder: '__webmoeWorkerUrl__', file: 'worker.js' },
  { source: `new URL('./path-worker.ts', import.meta.url)`, placeholder: '__webmoePathUrl__', file: 'path-worker.js' },
].map((worker) => ({ ...worker, built: `new URL('./${worker.file}', import.meta.url)` }));

/**
 * Vite would bundle a worker into assets/ and rewrite its URL to one that other bundlers, and Vite itself in the
 * user's app, no longer recognise as a worker. Workers are entries here, and the literal form is kept.
 */
function keepWorkerUrls(): Plugin {
  const replaced = new Map<string, number>();
  return {
    name: 'webmoe-keep-worker-urls',
    enforce: 'pre',
    transform(code) {
      let changed = code;
      for (const { source, placeholder } of workers) {
        if (!code.includes(source)) continue;
        replaced.set(source, (replaced.get(source) ?? 0) + 1);
        changed = changed.replaceAll(source, placeholder);
      }
      // `map: null`: lines stay where they were.
      return changed === code ? undefined : { code: changed, map: null };
    },
    renderChunk(code) {
      const changed = workers.reduce((text, { placeholder, built }) => text.replaceAll(placeholder, built), code);
      return changed === code ? undefined : { code: changed, map: null };
    },
    generateBundle() {
      for (const { source } of workers) {
        const count = replaced.get(source) ?? 0;
        if (count !== 1) this.error(`"${source}" was found in ${count} modules of src/, not in one`);
      }
    },
  };
}

export default defineConfig({
  base: './',
  publicDir: false,
  plugins: [keepWorkerUrls(), plainShaders(), browserXgrammar(), thirdPartyLicenses()],
  build: {
    target: 'es2023',
    outDir: 'dist',
    emptyOutDir: true,
    sourcemap: true,
    minify: false,
    lib: {
      entry: {
        index: 'src/index.ts',
        engine: 'src/entries/engine.ts',
        inspect: 'src/entries/inspect.ts',
        'ai-sdk': 'src/entries/ai-sdk.ts',
        worker: 'src/worker/worker.ts',
        'path-worker': 'src/worker/path-worker.ts',
      },
      formats: ['es'],
    },
    rollupOptions: {
      external,
      output: { chunkFileNames: 'shared-[hash].js' },
      // A package of task descriptions, half a megabyte, of which the GGUF reader needs two lists of names.
      treeshake: { moduleSideEffects: (id) => !id.includes('/@huggingface/tasks/') },
    },
  },
});
