/**
 * The packed library in apps as their generators make them, by development server and production build: all of them stream
 * the answer that `npm run generate` gives. In test:full; where the registry or a generator cannot be had, skipped with why.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, type Page, test } from '@playwright/test';
import { type Finished, repositoryRoot, runToEnd, startServer } from './command';
import { packLibrary } from './fresh-app';
import { type AppKind, addLibrary, appKinds, copyPublic, findProgram, generateApp, runInApp } from './generated-app';

test.skip(!process.env.WEBMOE_FULL, 'apps of generators are for test:full');
/** What README.md and docs/guides/embed.md ask. */
const question = 'What kind of music do you like?';

let folder: string;
let tarball: string;
let modelPath: string;
let expected: string;

test.beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webmoe-generated-'));
  const { url } = JSON.parse(await readFile(join(repositoryRoot, 'public/models/default.json'), 'utf8'));
  modelPath = join(repositoryRoot, 'public', url);
  expectSuccess(await runToEnd('node', ['tools/run.mjs', 'build'], { limitMs: 300_000 }));
  tarball = await packLibrary(folder);
  const flags = ['--prompt', question, '--max-tokens', '64', '--json'];
  const asked = await runToEnd('node', ['tools/run.mjs', 'generate', ...flags], { limitMs: 300_000 });
  expectSuccess(asked);
  expected = JSON.parse(asked.stdout).text;
  expect(expected.trim()).not.toBe('');
});

test.afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

function expectSuccess({ status, stdout, stderr }: Finished): void {
  expect(status, `${stdout}\n${stderr}`).toBe(0);
}

/** In the page, before its scripts: keeps every text that the answer ever showed. */
function recordAnswer(): void {
  const seen: string[] = [];
  Object.assign(globalThis, { seenAnswers: seen });
  new MutationObserver(() => {
    const text = document.querySelector('output')?.textContent ?? '';
    if (text && seen.at(-1) !== text) seen.push(text);
  }).observe(document, { childList: true, characterData: true, subtree: true });
}

async function chatInApp(
  page: Page,
  app: string,
  kind: AppKind,
  [program = '', ...args]: readonly string[],
): Promise<void> {
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => {
    const text = `${message.text()} (${message.location().url})`;
    // Not every generator brings an icon.
    if (kind.complaints?.test(text) || text.includes('/favicon.ico')) return;
    if (message.type() === 'error' || message.type() === 'warning') problems.push(text);
  });
  await page.addInitScript(recordAnswer);
  const server = await startServer('node', [findProgram(app, program), ...args], { cwd: app });
  try {
    await page.goto(server.url);
    const readSeen = () => page.evaluate(() => (globalThis as unknown as { seenAnswers: string[] }).seenAnswers);
    await expect.poll(async () => (await readSeen()).at(-1), { timeout: 120_000 }).toBe(expected);
    // It came in pieces, each of which continues the one before.
    const seen = await readSeen();
    expect(seen.length).toBeGreaterThan(3);
    for (const [i, text] of seen.entries()) expect(expected.startsWith(text), `${i}: ${text}`).toBe(true);
    expect(problems).toEqual([]);
  } finally {
    server.stop();
  }
}

for (const [i, kind] of appKinds.entries()) {
  test.describe(kind.name, () => {
    const getApp = () => join(folder, String(i), 'app');

    test.beforeAll(async () => {
      const missing = await generateApp(join(folder, String(i)), kind);
      if (missing !== null) console.warn(`SKIPPED: ${kind.name}: ${missing}`);
      test.skip(missing !== null, missing ?? '');
      await addLibrary(getApp(), kind, tarball, modelPath);
    });

    test('the development server streams the answer', async ({ page }) => {
      await chatInApp(page, getApp(), kind, kind.development);
    });

    for (const { name, build, serve } of kind.builds) {
      test(`the ${name} streams the answer`, async ({ page }) => {
        expectSuccess(await runInApp(getApp(), build));
        await copyPublic(getApp(), kind);
        await chatInApp(page, getApp(), kind, serve);
      });
    }
  });
}
