/**
 * What browsers do to pages that run the engine: frozen in the background, asleep with the machine. The
 * answer is that of the calm run, an install goes on, and nothing stays pending.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { type Browser, chromium, expect, type Page, test } from '@playwright/test';
import type { GenerateRequest, GenerateResult, LoadedModel, LoadOptions } from '../../src/engine/engine';
import { chromiumArgs, ensureChromium } from '../../tools/chromium';
import { pageUrl } from '../../tools/engine-page/browser-page';
import { type PageServer, servePage } from '../../tools/engine-page/page-server';
import type { PageOutcome } from '../../tools/engine-page/protocol';
import { createHubFile, type Hub, startHub } from '../hub/hub';
import { repositoryRoot } from './command';

test.describe.configure({ mode: 'serial' });
test.skip(!process.env.WEBMOE_FULL, 'pages that freeze and machines that sleep are for test:full');

const request: GenerateRequest = {
  messages: [{ role: 'user', content: 'What kind of music do you like?' }],
  maxTokens: 32,
  ignoreEos: true,
};
const options: LoadOptions = { expertBudget: { percent: 50 }, startEarly: false };

let server: PageServer;
let hub: Hub;
let modelUrl: string;
let modelBytes: number;
let calm: GenerateResult;

/** What the page keeps between calls of the test. */
interface Kept {
  /** Texts of the answer so far. */
  texts: string[];
  pending: Promise<PageOutcome<GenerateResult & LoadedModel>>;
}

test.beforeAll(async () => {
  const { url } = JSON.parse(await readFile(join(repositoryRoot, 'public/models/default.json'), 'utf8'));
  const model = await readFile(join(repositoryRoot, 'public', url));
  modelBytes = model.byteLength;
  hub = await startHub({ repositories: { 'webmoe/chat': { 'model.gguf': createHubFile(model) } } });
  modelUrl = `${hub.url}webmoe/chat/resolve/main/model.gguf`;
  server = await servePage([]);
});

test.afterAll(async () => {
  await server?.close();
  await hub?.close();
});

const launchOptions = () => ({
  executablePath: ensureChromium(),
  args: [...chromiumArgs, `--host-resolver-rules=MAP webmoe.localhost:80 127.0.0.1:${server.port}`],
});

async function openPage(browser: Browser): Promise<Page> {
  const page = await browser.newPage();
  await page.goto(pageUrl);
  await page.waitForFunction(() => window.webmoeCalls !== undefined);
  return page;
}

/** Begins a call whose end is waited for later; a page that is frozen answers nothing. */
async function begin(page: Page, call: 'load' | 'generate'): Promise<void> {
  await page.evaluate(
    ([name, url, loadOptions, generateRequest]) => {
      const texts: string[] = [];
      window.webmoeReport = async (report) => {
        if (report.kind === 'text') texts.push(report.text);
      };
      const pending =
        name === 'load'
          ? window.webmoeCalls?.load(url, loadOptions)
          : window.webmoeCalls?.generate({ ...generateRequest });
      Object.assign(globalThis, { kept: { texts, pending } });
    },
    [call, modelUrl, options, request] as const,
  );
}

async function end(page: Page): Promise<GenerateResult & LoadedModel> {
  const outcome = await page.evaluate(() => (globalThis as unknown as { kept: Kept }).kept.pending);
  if (!outcome.ok) throw new Error(JSON.stringify(outcome));
  return outcome.result;
}

const countTexts = (page: Page) => page.evaluate(() => (globalThis as unknown as { kept: Kept }).kept.texts.length);

async function waitForText(page: Page): Promise<void> {
  await page.waitForFunction(() => (globalThis as unknown as { kept: Kept }).kept.texts.length > 0);
}

test('a page that is frozen in the middle of an answer goes on when it is shown again', async () => {
  const browser = await chromium.launch(launchOptions());
  try {
    const page = await openPage(browser);
    await begin(page, 'load');
    await end(page);
    await begin(page, 'generate');
    calm = await end(page);

    const devtools = await page.context().newCDPSession(page);
    await begin(page, 'generate');
    await waitForText(page);
    await devtools.send('Page.setWebLifecycleState', { state: 'frozen' });
    await wait(3000);
    await devtools.send('Page.setWebLifecycleState', { state: 'active' });
    // It did stand still: otherwise all of it would be there.
    expect(await countTexts(page)).toBeLessThan(request.maxTokens ?? 0);
    const { tokenIds, text } = await end(page);
    expect(text).toBe(calm.text);
    expect(tokenIds).toEqual(calm.tokenIds);
  } finally {
    await browser.close();
  }
});

test('a machine that sleeps during an install and during an answer wakes up to both', async () => {
  test.setTimeout(600_000);
  // Longer than a server may take for a read, and than a worker may be silent.
  const sleepMs = 40_000;
  const browserServer = await chromium.launchServer(launchOptions());
  const pid = browserServer.process().pid as number;
  const sleep = async (meanwhile: () => void) => {
    process.kill(-pid, 'SIGSTOP');
    meanwhile();
    await wait(sleepMs);
    process.kill(-pid, 'SIGCONT');
  };
  try {
    const browser = await chromium.connect(browserServer.wsEndpoint());
    const page = await openPage(browser);
    hub.requests.length = 0;
    // Slow enough that a busy machine stops the browser long before the end.
    hub.bytesPerSecond = 2e6;
    await begin(page, 'load');
    const countBytes = () => hub.requests.reduce((sum, { sentBytes }) => sum + sentBytes, 0);
    await expect.poll(countBytes, { intervals: [20] }).toBeGreaterThan(modelBytes * 0.2);
    // Nothing reads: what is on the way stays in the sockets, and the server waits.
    await sleep(() => expect(countBytes()).toBeLessThan(modelBytes));
    hub.bytesPerSecond = Number.POSITIVE_INFINITY;
    expect((await end(page)).installed).toBe(true);
    await begin(page, 'generate');
    await waitForText(page);
    await sleep(() => {});
    expect((await end(page)).tokenIds).toEqual(calm.tokenIds);
  } finally {
    hub.bytesPerSecond = Number.POSITIVE_INFINITY;
    process.kill(-pid, 'SIGCONT');
    await browserServer.close();
  }
});
