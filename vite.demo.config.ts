/** Owns how the demo page is built and served: a static folder that works from any path and without a network. */
import { defineConfig } from 'vite';
import { browserXgrammar } from './tools/build/browser-xgrammar.ts';

export default defineConfig({
  root: 'demo',
  publicDir: '../public',
  base: './',
  worker: { format: 'es', plugins: () => [browserXgrammar()] },
  build: { outDir: '../dist-demo', emptyOutDir: true, target: 'es2023' },
});
