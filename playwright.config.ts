/**
 * Owns how the Playwright tests run: `e2e` against the served demo, `package` against the packed tarball.
 * The demo server is started once, on any free port.
 */
import { defineConfig, devices } from '@playwright/test';
import { chromiumArgs, findChromium } from './tools/chromium.ts';

const executablePath = findChromium();
const demoPort = process.env.WEBMOE_DEMO_PORT;

export default defineConfig({
  testDir: 'test',
  // Software WebGPU takes every core, and the tests would share one IndexedDB quota.
  workers: 1,
  fullyParallel: false,
  retries: 0,
  forbidOnly: true,
  timeout: 300_000,
  expect: { timeout: 60_000 },
  outputDir: 'test-results',
  reporter: 'list',
  use: {
    ...devices['Desktop Chrome'],
    ...(demoPort ? { baseURL: `http://127.0.0.1:${demoPort}/` } : {}),
    // Chromium gives a GPU process up that dies too often, and lets a site have no WebGPU after the second time; a test has it die.
    launchOptions: {
      args: [...chromiumArgs, '--disable-gpu-process-crash-limit', '--disable-domain-blocking-for-3d-apis'],
      ...(executablePath ? { executablePath } : {}),
    },
  },
  projects: [
    { name: 'e2e', testMatch: 'e2e/**/*.test.ts' },
    { name: 'package', testMatch: 'package/**/*.test.ts', timeout: 600_000 },
  ],
  webServer: {
    command: 'node tools/run.mjs demo --port 0',
    // The port it says becomes WEBMOE_DEMO_PORT, for the workers' copy of this file.
    wait: { stdout: /http:\/\/127\.0\.0\.1:(?<webmoe_demo_port>\d+)/ },
    timeout: 300_000,
    gracefulShutdown: { signal: 'SIGTERM', timeout: 3000 },
  },
});
