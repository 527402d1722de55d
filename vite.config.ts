/**
 * Owns the library build: ES modules, the worker as a file of its own, dependencies left to the user's bundler.
 * The demo has vite.demo.config.ts; declarations come from tsconfig.build.json.
 */
import { readFileSync } from 'node:fs';
import { defineConfig, type Plugin } from 'vite';

const { dependencies } = JSON.parse(readFileSync(new URL('./package.json', import.meta.url), 'utf8'));
const external = Object.keys(dependencies).map((name) => new RegExp(`^${name}(/|$)`));

const sourceUrl = `new URL('../worker/worker.ts', import.meta.url)`;
const placeholder = '__webmoeWorkerUrl__';
const builtUrl = `new URL('./worker.js', import.meta.url)`;

/**
 * Vite would bundle the worker into assets/ and rewrite its URL to one that other bundlers, and Vite itself in the
 * user's app, no longer recognise as a worker. The worker is an entry here, and the literal form is kept.
 */
function keepWorkerUrl(): Plugin {
  let replaced = 0;
  return {
    name: 'webmoe-keep-worker-url',
    enforce: 'pre',
    transform(code) {
      if (!code.includes(sourceUrl)) return undefined;
      replaced++;
      // `map: null`: lines stay where they were.
      return { code: code.replaceAll(sourceUrl, placeholder), map: null };
    },
    renderChunk(code) {
      return code.includes(placeholder) ? { code: code.replaceAll(placeholder, builtUrl), map: null } : undefined;
    },
    generateBundle() {
      if (replaced !== 1) this.error(`"${sourceUrl}" was found in ${replaced} modules of src/client, not in one`);
    },
  };
}

export default defineConfig({
  base: './',
  publicDir: false,
  plugins: [keepWorkerUrl()],
  build: {
    target: 'es2023',
    outDir: 'dist',
    emptyOutDir: true,
    sourcemap: true,
    minify: false,
    lib: { entry: { index: 'src/index.ts', worker: 'src/worker/worker.ts' }, formats: ['es'] },
    rollupOptions: { external, output: { chunkFileNames: 'shared-[hash].js' } },
  },
});
