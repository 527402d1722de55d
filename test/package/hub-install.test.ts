/**
 * Installing from a hub, as a page of the package does it: pages that die on the way, and answers before the end.
 * The hub's log says what was asked for; every browser profile is new, and kept over what dies.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium, expect, type Page, test } from '@playwright/test';
import type { GenerateRequest, GenerateResult, LoadedModel, LoadOptions, TraceEntry } from '../../src/engine/engine';
import { installModel } from '../../src/store/install';
import { createMemorySource } from '../../src/store/memory-source';
import { createMemoryStore } from '../../src/store/memory-store';
import { chromiumArgs, ensureChromium } from '../../tools/chromium';
import { pageUrl } from '../../tools/engine-page/browser-page';
import { type PageServer, servePage } from '../../tools/engine-page/page-server';
import type { PageOutcome } from '../../tools/engine-page/protocol';
import { createHubFile, type Hub, type HubRequest, startHub } from '../hub/hub';
import { createRandom } from '../unit/random';
import { repositoryRoot } from './command';

test.describe.configure({ mode: 'serial' });

/** Of each of the browser's stores; 6 in all in `npm test`. */
const KILLS = process.env.WEBMOE_FULL ? 20 : 3;
const STORES = ['indexeddb', 'opfs'] as const;
const MOST_REPEATED_BYTES = 4 * 2 ** 20;

let folder: string;
let server: PageServer;
let model: Uint8Array;
let hub: Hub;
let modelUrl: string;

test.beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webmoe-hub-'));
  const { url } = JSON.parse(await readFile(join(repositoryRoot, 'public/models/default.json'), 'utf8'));
  model = await readFile(join(repositoryRoot, 'public', url));
  hub = await startHub({ repositories: { 'webmoe/chat': { 'model.gguf': createHubFile(model) } } });
  modelUrl = `${hub.url}webmoe/chat/resolve/main/model.gguf`;
  server = await servePage([]);
});

test.afterAll(async () => {
  await server?.close();
  await hub?.close();
  await rm(folder, { recursive: true, force: true });
});

async function openBrowser(profile: string): Promise<BrowserContext> {
  return chromium.launchPersistentContext(join(folder, profile), {
    executablePath: ensureChromium(),
    headless: true,
    args: [...chromiumArgs, `--host-resolver-rules=MAP webmoe.localhost:80 127.0.0.1:${server.port}`],
  });
}

async function openPage(context: BrowserContext, onRoutes: (entries: readonly TraceEntry[]) => void = () => {}) {
  const page = await context.newPage();
  await page.exposeFunction('webmoeReport', (report: { kind: string; entries?: readonly TraceEntry[] }) => {
    if (report.kind === 'routes') onRoutes(report.entries ?? []);
  });
  await page.goto(pageUrl);
  await page.waitForFunction(() => window.webmoeCalls !== undefined);
  return page;
}

function unwrap<T>(outcome: PageOutcome<T> | undefined): T {
  if (!outcome?.ok) throw new Error(JSON.stringify(outcome));
  return outcome.result;
}

async function load(page: Page, options: LoadOptions): Promise<LoadedModel> {
  return unwrap(
    await page.evaluate(([url, given]) => window.webmoeCalls?.load(url, given), [modelUrl, options] as const),
  );
}

async function generate(page: Page, request: GenerateRequest): Promise<GenerateResult> {
  return unwrap(await page.evaluate((given) => window.webmoeCalls?.generate(given), request));
}

/** SHA-256 of every stored record, by key, and those that the manifest names. */
async function readDigests(page: Page, store: (typeof STORES)[number] = 'indexeddb') {
  return page.evaluate(async (kind) => {
    const wait = <T>(request: IDBRequest<T>) =>
      new Promise<T>((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    const database = await wait(indexedDB.open(kind === 'opfs' ? 'webmoe-opfs' : 'webmoe'));
    const [manifest] = await wait(database.transaction('manifests').objectStore('manifests').getAll());
    const stored: Record<string, string> = {};
    const getRecord = async (key: string) =>
      wait(database.transaction('records').objectStore('records').get([manifest.modelId, key]));
    const places = (await (manifest && getRecord('state/places'))) as
      | Map<string, { offsetBytes: number; lengthBytes: number }>
      | undefined;
    const folder =
      kind === 'opfs' ? await (await navigator.storage.getDirectory()).getDirectoryHandle('webmoe-opfs') : null;
    const file = manifest && folder ? await (await folder.getFileHandle(manifest.modelId)).getFile() : null;
    for (const key of Object.keys(manifest?.digests ?? {})) {
      const { offsetBytes = 0, lengthBytes = 0 } = places?.get(key) ?? {};
      const blob: Blob = file ? file.slice(offsetBytes, offsetBytes + lengthBytes) : await getRecord(key);
      const digest = await crypto.subtle.digest('SHA-256', await blob.arrayBuffer());
      stored[key] = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
    }
    const drafts = await wait(database.transaction('drafts').objectStore('drafts').count());
    database.close();
    return { noted: (manifest?.digests ?? null) as Record<string, string> | null, stored, drafts };
  }, store);
}

/** Marks the bytes of answers and returns how many were marked before. The probe of two bytes is no part of the file's data. */
function markAsked(asked: Uint8Array, requests: readonly HubRequest[]): number {
  let repeated = 0;
  for (const { range } of requests) {
    if (!range || range.end - range.start < 2) continue;
    for (let at = range.start; at <= range.end; at++) {
      if (asked[at] === 1) repeated++;
      asked[at] = 1;
    }
  }
  return repeated;
}

function countMissing(asked: Uint8Array): number {
  return asked.filter((mark) => mark === 0).byteLength;
}

for (const store of STORES) {
  test(`an install into ${store} that is killed ${KILLS} times goes on where it was`, () => killInstall(store));
}

async function killInstall(store: (typeof STORES)[number]): Promise<void> {
  test.setTimeout(1_200_000);
  hub.bytesPerSecond = 4e6;
  const random = createRandom(8);
  const asked = new Uint8Array(model.byteLength);
  const reference = await installModel(createMemorySource(model, 'model.gguf'), createMemoryStore());
  const profile = `killed ${store}`;
  let context = await openBrowser(profile);
  try {
    let kills = 0;
    for (; kills < KILLS; kills++) {
      hub.requests.length = 0;
      const page = await openPage(context);
      const loading = load(page, { store, startEarly: false }).then(
        () => 'loaded',
        () => 'died',
      );
      // At a random byte of what is left, so that slow machines are killed as far on their way as quick ones, and many kills
      // are spread over the file as few are.
      const lastBytes = (random.number() * 1.5 * countMissing(asked)) / (KILLS - kills + 1);
      const death = (async () => {
        const countBytes = () => hub.requests.reduce((sum, { sentBytes }) => sum + sentBytes, 0);
        while (hub.requests.length === 0 || countBytes() < lastBytes)
          await new Promise((resolve) => setTimeout(resolve, 5));
        return 'killed';
      })();
      const outcome = await Promise.race([loading, death]);
      expect(outcome, `kill ${kills} comes before the end`).not.toBe('loaded');
      // A tab that is closed, one that crashes, and a browser that goes.
      if (kills % 3 === 0) await page.close();
      else if (kills % 3 === 1) {
        const session = await context.newCDPSession(page);
        await Promise.race([session.send('Page.crash').catch(() => {}), page.waitForEvent('crash')]);
        await page.close();
      } else {
        await context.close();
        context = await openBrowser(profile);
      }
      const repeated = markAsked(asked, hub.requests);
      expect(repeated, `repeated after kill ${kills}`).toBeLessThanOrEqual(MOST_REPEATED_BYTES);
    }
    hub.requests.length = 0;
    hub.bytesPerSecond = Number.POSITIVE_INFINITY;
    expect(countMissing(asked), 'the kills came on the way').toBeLessThan(model.byteLength * 0.8);
    const page = await openPage(context);
    expect((await load(page, { store, startEarly: false, expertBudget: { percent: 25 } })).installed).toBe(true);
    expect(markAsked(asked, hub.requests), 'repeated at the end').toBeLessThanOrEqual(MOST_REPEATED_BYTES);
    const { noted, stored, drafts } = await readDigests(page, store);
    expect(noted).toEqual(reference.manifest.digests);
    expect(stored).toEqual(reference.manifest.digests);
    expect(drafts).toBe(0);
    // Installed: a reload asks for nothing but whether the file is the same.
    hub.requests.length = 0;
    const again = await openPage(context);
    expect((await load(again, { store, expertBudget: { percent: 25 } })).installed).toBe(false);
    expect(hub.requests.reduce((sum, { sentBytes }) => sum + sentBytes, 0)).toBeLessThanOrEqual(2);
  } finally {
    await context.close();
  }
}

test('two tabs install one model once, generate from it at the same time, and do without the hub', async () => {
  test.setTimeout(600_000);
  const request: GenerateRequest = { tokenIds: [1, 6, 300, 412, 523], maxTokens: 12, ignoreEos: true, topLogprobs: 2 };
  const options: LoadOptions = { store: 'opfs', startEarly: false, expertBudget: { percent: 25 } };
  const context = await openBrowser('tabs');
  const { fault } = hub;
  try {
    const tabs = await Promise.all([openPage(context), openPage(context)]);
    hub.requests.length = 0;
    hub.bytesPerSecond = Number.POSITIVE_INFINITY;
    const loaded = await Promise.all(tabs.map((tab) => load(tab, options)));
    expect(loaded.map(({ installed }) => installed).sort()).toEqual([false, true]);
    // Both read the header, one the weights.
    expect(hub.requests.reduce((sum, { sentBytes }) => sum + sentBytes, 0)).toBeLessThan(model.byteLength * 1.15);
    const answers = await Promise.all(tabs.map((tab) => generate(tab, request)));
    expect(answers[1]?.tokenIds).toEqual(answers[0]?.tokenIds);
    expect(answers[1]?.logprobs).toEqual(answers[0]?.logprobs);
    for (const { stats } of answers) {
      expect(stats.faultingLayers).toBeGreaterThan(0);
      expect(stats.tiers.store.pages).toBeGreaterThan(0);
      expect(stats.tiers.repairs).toBe(0);
    }
    hub.fault = (_request, response) => {
      response.destroy();
      return true;
    };
    const offline = await openPage(context);
    expect(await load(offline, options)).toMatchObject({ installed: false, isLocal: true });
    expect((await generate(offline, request)).logprobs).toEqual(answers[0]?.logprobs);
  } finally {
    hub.fault = fault;
    await context.close();
  }
});

test('the first token comes before the download ends, of little more than it needs, and the tokens are the same', async () => {
  test.setTimeout(600_000);
  const tokenIds = [1, 6, 300, 412, 523, 88, 1200, 77, 640, 911, 3000, 2048];
  const request: GenerateRequest = { tokenIds, maxTokens: 1, ignoreEos: true, trace: true, topLogprobs: 3 };
  const used = new Set<string>();
  const context = await openBrowser('early');
  try {
    const page = await openPage(context, (entries) => {
      for (const { routes } of entries)
        for (const [layer, experts] of routes.entries()) for (const expert of experts) used.add(`${layer}/${expert}`);
    });
    hub.requests.length = 0;
    hub.bytesPerSecond = 2e6;
    const early = await load(page, {});
    expect(early).toMatchObject({ installed: true, isLocal: false });
    const first = await generate(page, request);
    const fetched = hub.requests.reduce((sum, { sentBytes }) => sum + sentBytes, 0);
    const { pageBytes, residentBytes } = await measureModel();
    test
      .info()
      .annotations.push({ type: 'bytes', description: `${fetched} of ${model.byteLength}, ${used.size} pages used` });
    expect(fetched).toBeLessThan(model.byteLength);
    expect(fetched).toBeLessThanOrEqual(residentBytes + used.size * pageBytes + model.byteLength * 0.1);
    expect(first.stats.tiers.source.pages).toBeGreaterThan(0);

    const long = await generate(page, { ...request, maxTokens: 24 });
    hub.bytesPerSecond = Number.POSITIVE_INFINITY;
    await expect.poll(async () => (await readDigests(page)).drafts, { timeout: 120_000 }).toBe(0);
    const { noted, stored } = await readDigests(page);
    expect(stored).toEqual(noted);
    const total = hub.requests.reduce((sum, { sentBytes }) => sum + sentBytes, 0);
    expect(total).toBeLessThan(model.byteLength * 1.02);

    const whole = await load(page, {});
    expect(whole).toMatchObject({ installed: false, isLocal: true });
    const installed = await generate(page, { ...request, maxTokens: 24 });
    expect(installed.tokenIds.slice(0, 1)).toEqual(first.tokenIds);
    expect(installed.tokenIds).toEqual(long.tokenIds);
    expect(installed.logprobs).toEqual(long.logprobs);
  } finally {
    await context.close();
  }
});

async function measureModel() {
  const { manifest } = await installModel(createMemorySource(model, 'model.gguf'), createMemoryStore());
  return {
    pageBytes: manifest.pageLayouts[0]?.pageBytes ?? 0,
    residentBytes: manifest.resident.reduce((sum, { matrix }) => sum + matrix.sizeBytes, 0),
  };
}
