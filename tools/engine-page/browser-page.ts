/**
 * Opens the engine's page in headless Chromium for a command; ends promptly when the page or the browser dies.
 * Owns the browser's life. Never prints: what the page reports goes to a callback.
 */

import { type BrowserContext, chromium, type Page } from 'playwright';
import type {
  GenerateRequest,
  GenerateResult,
  LoadedModel,
  LoadOptions,
  ScoreRequest,
  ScoreResult,
} from '../../src/engine/engine.ts';
import { chromiumArgs, ensureChromium } from '../chromium.ts';
import { ToolError } from '../tool-error.ts';
import type { PageOutcome, PageReport } from './protocol.ts';

/**
 * The page's origin, whatever the port: browser storage belongs to an origin, and a kept profile has to find its
 * models again. Under localhost it counts as secure, which WebGPU asks for.
 */
const pageHost = 'webmoe.localhost';

export const pageUrl = `http://${pageHost}/page.html`;

/** Loading a small page from this machine; not the engine's calls, which may take as long as they need. */
const openLimitMs = 60_000;

export interface BrowserOptions {
  readonly port: number;
  /** Folder of a browser profile that is kept; absent: a fresh one, removed at the end. */
  readonly profile?: string;
  readonly chromeArgs: readonly string[];
  readonly signal: AbortSignal;
}

export interface EnginePageOptions extends BrowserOptions {
  readonly onReport: (report: PageReport) => void;
}

/** The engine in the page. Its errors arrive as ToolErrors with the engine's code. */
export interface EnginePage {
  load(modelUrl: string, options: LoadOptions): Promise<LoadedModel>;
  generate(request: GenerateRequest): Promise<GenerateResult>;
  score(request: ScoreRequest): Promise<ScoreResult>;
}

/**
 * Runs `use` on a fresh page and closes the browser.
 * @throws ToolError `NO_BROWSER`, `BROWSER_CRASHED`, `ABORTED`, and what `use` throws.
 */
export async function withEnginePage<T>(options: EnginePageOptions, use: (page: EnginePage) => Promise<T>): Promise<T> {
  return withPage(options, async (page) => use(await openEnginePage(page, options)));
}

/**
 * Runs `use` on the empty page of a fresh browser and closes it.
 * @throws ToolError `NO_BROWSER`, `BROWSER_CRASHED`, `ABORTED`, and what `use` throws.
 */
export async function withPage<T>(options: BrowserOptions, use: (page: Page) => Promise<T>): Promise<T> {
  options.signal.throwIfAborted();
  const context = await launch(options);
  try {
    const page = context.pages()[0] ?? (await context.newPage());
    const run = async () => use(page);
    return await Promise.race([run(), watch(context, page, options.signal)]);
  } finally {
    // A crashed browser may not answer; it is not waited for.
    await Promise.race([context.close().catch(() => {}), new Promise((resolve) => setTimeout(resolve, 3000))]);
  }
}

async function launch({ port, profile, chromeArgs }: BrowserOptions): Promise<BrowserContext> {
  const executablePath = ensureChromium();
  const hostRule = `--host-resolver-rules=MAP ${pageHost}:80 127.0.0.1:${port}`;
  try {
    // A persistent context also without a profile to keep: storage then is on disk, as it is for a user.
    return await chromium.launchPersistentContext(profile ?? '', {
      executablePath,
      headless: true,
      args: [...chromiumArgs, hostRule, ...chromeArgs],
      handleSIGINT: false,
      handleSIGTERM: false,
      handleSIGHUP: false,
    });
  } catch (cause) {
    const [first = ''] = (cause as Error).message.split('\n');
    const remedy = profile
      ? `close what else uses --profile "${profile}", or try another folder`
      : 'name another Chromium in WEBMOE_CHROMIUM';
    throw new ToolError('NO_BROWSER', `${executablePath} did not start (${first}); ${remedy}`, { cause });
  }
}

async function openEnginePage(page: Page, { onReport }: EnginePageOptions): Promise<EnginePage> {
  await page.exposeFunction('webmoeReport', onReport);
  await page.goto(pageUrl, { timeout: openLimitMs });
  await page.waitForFunction(() => window.webmoeCalls !== undefined, undefined, { timeout: openLimitMs });
  return {
    load: async (modelUrl, options) =>
      unwrap(await page.evaluate(([url, value]) => window.webmoeCalls?.load(url, value), [modelUrl, options] as const)),
    generate: async (request) => unwrap(await page.evaluate((value) => window.webmoeCalls?.generate(value), request)),
    score: async (request) => unwrap(await page.evaluate((value) => window.webmoeCalls?.score(value), request)),
  };
}

function unwrap<T>(outcome: PageOutcome<T> | undefined): T {
  if (!outcome) throw new ToolError('INTERNAL', 'the page lost its script');
  if (!outcome.ok) throw new ToolError(outcome.code, outcome.message);
  return outcome.result;
}

/** Rejects when nothing can come from the page any more. */
function watch(context: BrowserContext, page: Page, signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const crashed = (what: string) =>
      reject(new ToolError('BROWSER_CRASHED', `${what}; a smaller --expert-budget or --context needs less memory`));
    page.once('crash', () => crashed('the page crashed'));
    context.once('close', () => crashed('the browser went away'));
    page.once('pageerror', (error) => reject(new ToolError('INTERNAL', `the page failed: ${error.message}`)));
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
