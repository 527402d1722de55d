/**
 * Owns the library build: ES modules, the worker as a file of its own, dependencies left to the user's bundler.
 * The demo has vite.demo.config.ts; declarations come from tsconfig.build.json.
 */
import { readFileSync } from 'node:fs';
import { defineConfig, type Plugin } from 'vite';

const { dependencies } = JSON.parse(readFileSync(new URL('./package.json', import.meta.url), 'utf8'));
const external = Object.keys(dependencies).map((name) => new RegExp(`^${name}(/|$)`));

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
  plugins: [keepWorkerUrls()],
  build: {
    target: 'es2023',
    outDir: 'dist',
    emptyOutDir: true,
    sourcemap: true,
    minify: false,
    lib: {
      entry: { index: 'src/index.ts', worker: 'src/worker/worker.ts', 'path-worker': 'src/worker/path-worker.ts' },
      formats: ['es'],
    },
    rollupOptions: { external, output: { chunkFileNames: 'shared-[hash].js' } },
  },
});
