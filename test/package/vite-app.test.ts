/**
 * The packed library in a fresh Vite app: served by the development server, and built for production.
 * Both stream the same answer, and the one `npm run generate` gives.
 */

import { createHash } from 'node:crypto';
import { access, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { expect, type Page, test } from '@playwright/test';
import filePlugin from '@size-limit/file';
import { publint } from 'publint';
import sizeLimit from 'size-limit';
import type { Chat } from '../../src/chat/chat';
import type { Engine, GenerateResult } from '../../src/engine/engine';
import type { EngineError } from '../../src/errors';
import { loadGoldenChats } from '../golden/index';
import { type Finished, repositoryRoot, runToEnd, startServer } from './command';
import { type AppState, createFreshApp, packLibrary } from './fresh-app';
import { readFirstLines } from './generated-app';
import { servePlainPage } from './plain-page';

test.describe.configure({ mode: 'serial' });

const question = 'What kind of music do you like?';
const request = { messages: [{ role: 'user', content: question }], maxTokens: 24, ignoreEos: true } as const;
const vite = 'node_modules/vite/bin/vite.js';

/** Bytes, gzipped but not minified: what an app's own bundler makes of it is smaller. README.md states them. */
const sizeLimits = { 'index.js': 20_000, 'ai-sdk.js': 15_000, 'inspect.js': 170_000, 'worker.js': 275_000 };

let folder: string;
let tarball: string;
let app: string;
let modelPath: string;
let expected: GenerateResult;

test.beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webmoe-fresh-'));
  app = join(folder, 'app');
  const { url } = JSON.parse(await readFile(join(repositoryRoot, 'public/models/default.json'), 'utf8'));
  modelPath = join(repositoryRoot, 'public', url);
  expectSuccess(await runToEnd('node', ['tools/run.mjs', 'build'], { limitMs: 300_000 }));
  tarball = await packLibrary(folder);
  await createFreshApp(app, { tarball, modelPath, request });
});

test.afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

function expectSuccess({ status, stdout, stderr }: Finished): void {
  expect(status, `${stdout}\n${stderr}`).toBe(0);
}

const installed = (...path: string[]) => join(app, 'node_modules/webmoe', ...path);

/** A built module and all that it imports statically. */
async function listStaticImports(file: string, found = new Set<string>()): Promise<string[]> {
  if (found.has(file)) return [];
  found.add(file);
  const text = await readFile(file, 'utf8');
  for (const [, name] of text.matchAll(/^(?:import|export)\b[^'"\n]*["'](\.\/[^"']+)["'];?$/gm)) {
    await listStaticImports(join(dirname(file), name as string), found);
  }
  return [...found];
}

/** Serves the app, lets the page run to its end and checks that it streamed. */
async function chatInApp(page: Page, command: readonly string[]): Promise<GenerateResult> {
  const problems: string[] = [];
  let navigations = 0;
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') problems.push(message.text());
  });
  page.on('framenavigated', () => navigations++);
  const server = await startServer('node', [vite, ...command, '--host', '127.0.0.1'], { cwd: app });
  try {
    await page.goto(server.url);
    const ended = await page.waitForFunction(() => {
      const { app } = globalThis as unknown as { app?: AppState };
      return app?.result !== undefined || app?.error !== undefined ? app : undefined;
    });
    const state = (await ended.jsonValue()) as AppState;
    expect(state.error).toBeUndefined();
    expect(problems).toEqual([]);
    // A development server that meets a package late reloads the page, and the answer with it.
    expect(navigations).toBe(1);
    expect(page.workers()).toHaveLength(1);
    expect(state.model).toMatchObject({ installed: true });
    expect(state.model?.slotsPerLayer).toBe(Math.ceil((state.model?.experts ?? 0) / 2));
    const result = state.result as GenerateResult;
    expect(result.tokenIds).toHaveLength(request.maxTokens);
    expect(state.tokens).toHaveLength(result.tokenIds.length);
    expect(state.tokens.map(({ text }) => text).join('')).toBe(result.text);
    expect(await page.locator('output').textContent()).toBe(result.text);
    const gapsMs = state.tokens.slice(1).map(({ atMs }, index) => atMs - (state.tokens[index]?.atMs ?? 0));
    // Tokens of one pass come together; each pass has a moment of its own, but where a busy machine lets the page wait.
    const { passes } = result.stats.draft;
    expect(passes).toBeGreaterThan(0);
    expect(gapsMs.filter((gapMs) => gapMs > 0.5).length).toBeGreaterThan(passes / 4);
    return result;
  } finally {
    server.stop();
  }
}

test('the package holds the library and its documents only, without a path of this machine', async () => {
  const top = await readdir(installed());
  const documents = ['ARCHITECTURE.md', 'CHANGELOG.md', 'LICENSE', 'README.md', 'docs', 'public'];
  expect(top.sort()).toEqual([...documents, 'dist', 'package.json'].sort());
  const paths = (await readdir(installed(), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  for (const path of paths) {
    const text = await readFile(path, 'utf8');
    expect(text.includes(repositoryRoot) || /file:\/\/\/\w/.test(text), `${path} names a folder`).toBe(false);
  }
  const modules = paths.filter((path) => path.endsWith('.js')).map((path) => relative(installed('dist'), path));
  expect(modules).toEqual(expect.arrayContaining([...Object.keys(sizeLimits), 'engine.js', 'path-worker.js']));
});

test('every link of its documents leads to a file of the package', async () => {
  const pages = (await readdir(installed(), { recursive: true })).filter((path) => path.endsWith('.md'));
  expect(pages).toEqual(expect.arrayContaining(['README.md', 'docs/chat.md', 'docs/guides/embed.md']));
  const broken: string[] = [];
  for (const page of pages) {
    const text = await readFile(installed(page), 'utf8');
    for (const [, link, image] of text.matchAll(/\]\(([^)\s]+)\)|<img src="([^"]+)"/g)) {
      const [target = ''] = (link ?? image ?? '').split('#');
      if (target === '' || /^[a-z]+:/.test(target)) continue;
      await access(join(dirname(installed(page)), decodeURIComponent(target))).catch(() =>
        broken.push(`${page}: ${target}`),
      );
    }
  }
  expect(broken).toEqual([]);
});

test('the worker is a file of its own with the shaders in it', async () => {
  const entry = await readFile(installed('dist/index.js'), 'utf8');
  expect(entry).toMatch(/new Worker\(new URL\(["']\.\/worker\.js["'], import\.meta\.url\)/);
  const texts = (files: string[]) => Promise.all(files.map((file) => readFile(file, 'utf8')));
  expect((await texts(await listStaticImports(installed('dist/index.js')))).join()).not.toContain('@compute');
  const worker = (await texts(await listStaticImports(installed('dist/worker.js')))).join();
  expect(worker).toContain('@compute');
  expect(worker).not.toMatch(/from ["'][^"']*\.wgsl/);
});

test('what it names can be resolved in ES modules, and nothing of it is missing', async () => {
  const { messages } = await publint({ pkgDir: installed(), pack: false, strict: true });
  expect(messages).toEqual([]);
  const attw = join(dirname(fileURLToPath(import.meta.resolve('@arethetypeswrong/cli/package.json'))), 'dist/index.js');
  expectSuccess(await runToEnd('node', [attw, tarball, '--profile', 'esm-only', '--format', 'ascii']));
});

test('entries stay under their limits, gzipped, with all that they import but what is loaded when asked for', async () => {
  for (const [file, limitBytes] of Object.entries(sizeLimits)) {
    const files = await listStaticImports(installed('dist', file));
    const [result] = (await sizeLimit([filePlugin], { checks: [{ files, gzip: true }] })) as { size: number }[];
    expect(result?.size, file).toBeLessThan(limitBytes);
    expect(result?.size, `${file}: the limit is of use`).toBeGreaterThan(limitBytes / 2);
  }
});

for (const [moduleResolution, module] of [
  ['bundler', 'ESNext'],
  ['nodenext', 'NodeNext'],
] as const) {
  test(`its declarations are complete under moduleResolution ${moduleResolution}`, async () => {
    const tsc = join(repositoryRoot, 'node_modules/typescript/bin/tsc');
    const args = ['-p', '.', '--moduleResolution', moduleResolution, '--module', module];
    expectSuccess(await runToEnd('node', [tsc, ...args], { cwd: app }));
  });
}

test('its API reference has every exported name of every entry', async () => {
  for (const [name, entry] of Object.entries({ webmoe: 'index', 'webmoe/inspect': 'entries/inspect' })) {
    const declarations = await readFile(installed(`dist/types/${entry}.d.ts`), 'utf8');
    const names = [...declarations.matchAll(/^export (?:type )?\{([^}]*)\} from/gm)].flatMap(([, list = '']) =>
      list.split(',').map((part) => part.trim().replace(/^type /, '')),
    );
    const reference = await readFile(installed(`dist/api/${name}.md`), 'utf8');
    expect(names.length).toBeGreaterThan(10);
    for (const exported of names.filter(Boolean)) expect(reference).toMatch(new RegExp(`^### ${exported}\\b`, 'm'));
  }
});

test('it can be imported where there is no Worker, as on a server', async () => {
  const script = `
    import { createEngine } from 'webmoe';
    import { createWebmoe } from 'webmoe/ai-sdk';
    import { createLocalEngine } from 'webmoe/engine';
    import { inspectModel } from 'webmoe/inspect';
    process.stdout.write([createEngine, createWebmoe, createLocalEngine, inspectModel].map((value) => typeof value).join());`;
  const imported = await runToEnd('node', ['--input-type=module', '-e', script], { cwd: app });
  expectSuccess(imported);
  expect(imported.stdout).toBe('function,function,function,function');
});

test('npm run generate answers the same request', async () => {
  const flags = ['--max-tokens', String(request.maxTokens), '--ignore-eos', '--expert-budget', '50%', '--json'];
  const finished = await runToEnd('node', ['tools/run.mjs', 'generate', '--prompt', question, ...flags]);
  expectSuccess(finished);
  expected = JSON.parse(finished.stdout);
  expect(expected.text.trim()).not.toBe('');
  const golden = await findGoldenChat();
  if (golden) expect(expected.tokenIds).toEqual(golden.tokenIds.slice(0, request.maxTokens));
});

/** The oracle's answer, where it was made from this very model file. */
async function findGoldenChat() {
  const golden = await loadGoldenChats(basename(modelPath, '-Q4_0.gguf')).catch(() => undefined);
  const digest = createHash('sha256').update(await readFile(modelPath));
  if (golden === undefined || digest.digest('hex') !== golden.sha256) return undefined;
  return golden.chats.find((chat) => chat.question === question);
}

test('the development server streams that answer', async ({ page }) => {
  const result = await chatInApp(page, []);
  expect(result.tokenIds).toEqual(expected.tokenIds);
  expect(result.text).toBe(expected.text);
});

test('the production build streams that answer', async ({ page }) => {
  const built = await runToEnd('node', [vite, 'build'], { cwd: app });
  expectSuccess(built);
  // On a busy machine Rolldown adds how long its plugins took; there is nothing else to say.
  expect(
    stripVTControlCharacters(built.stderr)
      .replace(/\[PLUGIN_TIMINGS\][\s\S]*?for more details\.\s*/g, '')
      .trim(),
  ).toBe('');
  const assets = await readdir(join(app, 'dist/assets'));
  expect(assets.some((name) => /^worker-.*\.js$/.test(name))).toBe(true);
  const result = await chatInApp(page, ['preview']);
  expect(result.tokenIds).toEqual(expected.tokenIds);
  expect(result.text).toBe(expected.text);
});

/** As strict as a policy with an import map in the page can be. */
const policy = (scripts: string) =>
  `default-src 'none'; script-src 'self' {importMap}${scripts}; worker-src 'self'; connect-src 'self'; base-uri 'none'`;
/** As docs/guides/embed.md has it: the worker's address through a policy of the page's own. */
const trustedTypes = {
  policy: `; require-trusted-types-for 'script'; trusted-types app`,
  adapt: (script: string): string =>
    script.replace(
      'createEngine()',
      `createEngine({ worker: new Worker(
        trustedTypes.createPolicy('app', { createScriptURL: (url) => url }).createScriptURL('/webmoe/worker.js'),
        { type: 'module' },
      ) })`,
    ),
};
const isolation = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

for (const { name, headers, isIsolated, hasGrammars, adapt = (script: string) => script } of [
  {
    name: 'a plain page with an import map, isolated, under a strict policy that lets WebAssembly be compiled',
    headers: { ...isolation, 'Content-Security-Policy': policy(` 'wasm-unsafe-eval'`) },
    isIsolated: true,
    hasGrammars: true,
  },
  {
    name: 'a plain page under a policy without WebAssembly, not isolated',
    headers: { 'Content-Security-Policy': policy('') },
    isIsolated: false,
    hasGrammars: false,
  },
  {
    name: 'a plain page that requires trusted types',
    headers: { 'Content-Security-Policy': policy(` 'wasm-unsafe-eval'`) + trustedTypes.policy },
    isIsolated: false,
    hasGrammars: true,
    adapt: trustedTypes.adapt,
  },
]) {
  test(`${name} streams the answer`, async ({ page }) => {
    test.skip(!isIsolated && !process.env.WEBMOE_FULL, 'the other policies are for test:full');
    const problems: string[] = [];
    page.on('pageerror', (error) => problems.push(error.message));
    page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
    const script = `${adapt(await readFirstLines())}\nObject.assign(globalThis, { ended: true, engine });`;
    const server = await servePlainPage({ dist: installed('dist'), modelPath, script, headers });
    try {
      await page.goto(server.url);
      await page.waitForFunction(() => 'ended' in globalThis);
      expect(await page.evaluate(() => globalThis.crossOriginIsolated)).toBe(isIsolated);
      const text = (await page.locator('output').last().textContent()) ?? '';
      expect(text.length).toBeGreaterThan(5);
      expect(expected.text.startsWith(text), text).toBe(true);
      expect(problems).toEqual([]);
      const outcome = await page.evaluate(async () => {
        const { engine } = globalThis as unknown as { engine: Engine & { chat: Chat } };
        const response_format = { type: 'regex', pattern: '(yes|no)' } as const;
        const messages = [{ role: 'user', content: 'Is it late?' }] as const;
        return engine.chat.completions.create({ messages, response_format }).then(
          ({ choices }) => choices[0]?.message.content,
          ({ code, message }: EngineError) => `${code}: ${message}`,
        );
      });
      expect(outcome).toMatch(hasGrammars ? /^(yes|no)$/ : /^UNSUPPORTED: .*wasm-unsafe-eval/);
    } finally {
      server.stop();
    }
  });
}
