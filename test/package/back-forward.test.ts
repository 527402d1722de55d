/**
 * Pages that are left and come back from the back/forward cache, by real navigation, and pages behind another tab: the
 * answer is that of the calm run, an install ends, and nobody waits for a page that is not there.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { expect, test } from '@playwright/test';
import type { GenerateRequest, GenerateResult, LoadedModel, LoadOptions } from '../../src/engine/engine';
import { pageUrl } from '../../tools/engine-page/browser-page';
import { type PageServer, servePage } from '../../tools/engine-page/page-server';
import type { PageOutcome } from '../../tools/engine-page/protocol';
import { createHubFile, type Hub, startHub } from '../hub/hub';
import { repositoryRoot } from './command';
import { launchRawChromium, type RawChromium, type RawTab } from './raw-chromium';

test.describe.configure({ mode: 'serial' });
test.skip(!process.env.WEBMOE_FULL, 'pages that are left and come back are for test:full');

const request: GenerateRequest = {
  messages: [{ role: 'user', content: 'What kind of music do you like?' }],
  maxTokens: 48,
  ignoreEos: true,
};
const options: LoadOptions = { expertBudget: { percent: 50 }, startEarly: false };
const AWAY_MS = 4000;

let server: PageServer;
let hub: Hub;
let modelUrl: string;
let modelBytes: number;
let browser: RawChromium;
let tab: RawTab;
let calm: GenerateResult;

test.beforeAll(async () => {
  const { url } = JSON.parse(await readFile(join(repositoryRoot, 'public/models/default.json'), 'utf8'));
  const model = await readFile(join(repositoryRoot, 'public', url));
  modelBytes = model.byteLength;
  hub = await startHub({ repositories: { 'webmoe/chat': { 'model.gguf': createHubFile(model) } } });
  modelUrl = `${hub.url}webmoe/chat/resolve/main/model.gguf`;
  server = await servePage([]);
  browser = await launchRawChromium([`--host-resolver-rules=MAP webmoe.localhost:80 127.0.0.1:${server.port}`]);
  tab = browser.tab;
});

test.afterAll(async () => {
  await browser?.close();
  await server?.close();
  await hub?.close();
});

async function openPage(at: RawTab, query: string): Promise<void> {
  await at.goTo(`${pageUrl}?${query}`);
  await at.waitFor(`location.search === '?${query}' && window.webmoeCalls`);
  await at.evaluate(`
    globalThis.shows = [];
    addEventListener('pageshow', ({ persisted }) => shows.push(persisted));
    globalThis.texts = [];
    globalThis.webmoeReport = async (report) => { if (report.kind === 'text') texts.push(report.text); };
    0`);
}

/** Begins a call whose end is waited for later. */
async function begin(at: RawTab, call: 'load' | 'generate'): Promise<void> {
  const args = call === 'load' ? `${JSON.stringify(modelUrl)}, ${JSON.stringify(options)}` : JSON.stringify(request);
  await at.evaluate(`texts.length = 0; globalThis.pending = webmoeCalls.${call}(${args}); 0`);
}

async function end<T extends GenerateResult | LoadedModel>(at: RawTab): Promise<T> {
  const outcome = await at.evaluate<PageOutcome<T>>('pending', 240_000);
  if (!outcome.ok) throw new Error(JSON.stringify(outcome));
  return outcome.result;
}

/** Leaves the page by a link and comes back to it with the browser's back button. */
async function leaveAndReturn(meanwhile: () => Promise<void>): Promise<void> {
  await openPage(tab, 'away');
  await meanwhile();
  await tab.evaluate('history.back(), 0');
  await tab.waitFor(`location.search === '?first' && window.webmoeCalls`);
}

test('an answer goes on, to the last token, in a page that comes back', async () => {
  test.setTimeout(600_000);
  await openPage(tab, 'first');
  await begin(tab, 'load');
  await end(tab);
  await begin(tab, 'generate');
  calm = await end(tab);
  for (const moment of ['texts.length > 0', 'true']) {
    await begin(tab, 'generate');
    await tab.waitFor(moment);
    const before = await tab.evaluate<number>('texts.length');
    await leaveAndReturn(() => wait(AWAY_MS));
    // From the cache, and what it had is there.
    expect(await tab.evaluate('shows')).toContain(true);
    const { tokenIds, text } = await end<GenerateResult>(tab);
    expect(await tab.evaluate<number>('texts.length')).toBeGreaterThan(before);
    expect(tokenIds).toEqual(calm.tokenIds);
    expect(text).toBe(calm.text);
  }
});

test('the model of a page that is away is there for the page in its place, and for both afterwards', async () => {
  test.setTimeout(600_000);
  await leaveAndReturn(async () => {
    await begin(tab, 'load');
    expect(await end<LoadedModel>(tab)).toMatchObject({ installed: false });
    await begin(tab, 'generate');
    expect((await end<GenerateResult>(tab)).tokenIds).toEqual(calm.tokenIds);
  });
  expect(await tab.evaluate('shows')).toContain(true);
  await begin(tab, 'generate');
  expect((await end<GenerateResult>(tab)).tokenIds).toEqual(calm.tokenIds);
});

test('an answer comes to its end behind another tab', async () => {
  test.setTimeout(600_000);
  await begin(tab, 'generate');
  const front = await browser.openTab(`${pageUrl}?front`);
  await front.waitFor('window.webmoeCalls');
  expect(await tab.evaluate('document.visibilityState')).toBe('hidden');
  expect((await end<GenerateResult>(tab)).tokenIds).toEqual(calm.tokenIds);
});

test('an install that is left on the way ends in the page in its place or in the one that comes back', async () => {
  test.setTimeout(600_000);
  const second = await launchRawChromium([`--host-resolver-rules=MAP webmoe.localhost:80 127.0.0.1:${server.port}`]);
  tab = second.tab;
  try {
    await openPage(tab, 'first');
    hub.requests.length = 0;
    hub.bytesPerSecond = 2e6;
    await begin(tab, 'load');
    const countBytes = () => hub.requests.reduce((sum, { sentBytes }) => sum + sentBytes, 0);
    await expect.poll(countBytes, { intervals: [20] }).toBeGreaterThan(modelBytes * 0.2);
    await leaveAndReturn(async () => {
      expect(countBytes()).toBeLessThan(modelBytes);
      hub.bytesPerSecond = Number.POSITIVE_INFINITY;
      // The page that is away may hold the lock of the install: the browser gives it up for whoever asks.
      await begin(tab, 'load');
      expect((await end<LoadedModel>(tab)).isLocal).toBe(true);
    });
    // Kept or made anew by the browser: its call has ended, or is begun again.
    const isKept = await tab.evaluate<boolean>(`'pending' in globalThis`);
    if (!isKept) {
      await openPage(tab, 'first');
      await begin(tab, 'load');
    }
    expect((await end<LoadedModel>(tab)).isLocal).toBe(true);
    await begin(tab, 'generate');
    expect((await end<GenerateResult>(tab)).tokenIds).toEqual(calm.tokenIds);
    test.info().annotations.push({ type: 'page in the middle of an install', description: isKept ? 'kept' : 'anew' });
  } finally {
    hub.bytesPerSecond = Number.POSITIVE_INFINITY;
    await second.close();
  }
});
