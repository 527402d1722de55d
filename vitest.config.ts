/**
 * Owns how the vitest tests run: `unit` in Node, `browser` in headless Chromium with WebGPU.
 * End-to-end and packaging tests belong to playwright.config.ts.
 */
import { playwright } from '@vitest/browser-playwright';
import { defineConfig } from 'vitest/config';
import { chromiumArgs, findChromium } from './tools/chromium.ts';

const executablePath = findChromium();
/** `npm run test:full`: a property at its full count is one long test. */
const isFull = Boolean(process.env.WEBMOE_FULL);
const FULL_TIMEOUT_MS = 1_200_000;

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          environment: 'node',
          include: ['test/{unit,dawn}/**/*.test.ts', 'test/structure.test.ts'],
          testTimeout: isFull ? FULL_TIMEOUT_MS : 60_000,
        },
      },
      {
        // Found ahead of time: a dependency that the optimiser meets in the middle of a run reloads the page.
        optimizeDeps: {
          entries: ['src/**/*.ts', 'demo/**/*.{ts,tsx}', 'test/{gpu,engine,unit-browser}/**/*.ts'],
          // The first is imported when a grammar is asked for, which the search does not see.
          include: ['@mlc-ai/web-xgrammar', 'ajv'],
        },
        publicDir: 'public',
        test: {
          name: 'browser',
          // Reaches the pages as import.meta.env.
          env: { WEBMOE_FULL: process.env.WEBMOE_FULL ?? '', WEBMOE_RECORD: process.env.WEBMOE_RECORD ?? '' },
          include: ['test/{gpu,engine,unit-browser}/**/*.test.ts'],
          // Long for what takes seconds: a machine that others share has stood still for a minute.
          testTimeout: isFull ? FULL_TIMEOUT_MS : 300_000,
          hookTimeout: 300_000,
          // Software WebGPU takes every core; pages side by side only run into timeouts.
          fileParallelism: false,
          // Kept pipelines (test/engine/shared-gpu.ts) serve all files.
          isolate: false,
          browser: {
            enabled: true,
            headless: true,
            screenshotFailures: false,
            provider: playwright({
              launchOptions: { args: [...chromiumArgs], ...(executablePath ? { executablePath } : {}) },
            }),
            instances: [{ browser: 'chromium' }],
          },
        },
      },
    ],
  },
});
