/**
 * Opens the page in headless Chromium and runs one request there; ends promptly when the page or browser dies.
 * Owns the browser's life. Never prints: what the page reports goes to a callback.
 */
import { type BrowserContext, chromium, type Page } from 'playwright';
import { chromiumArgs, ensureChromium } from '../chromium.ts';
import { ToolError } from '../tool-error.ts';
import type { PageOutcome, PageReport, PageRequest } from './protocol.ts';

/**
 * The page's origin, whatever the port: browser storage belongs to an origin, and a kept profile has to find its
 * models again. Under localhost it counts as secure, which WebGPU asks for.
 */
const pageHost = 'webmoe.localhost';

/** Loading a small page from this machine; not the generation, which may take as long as it needs. */
const openLimitMs = 60_000;

export interface BrowserOptions {
  readonly port: number;
  /** Folder of a browser profile that is kept; absent: a fresh one, removed at the end. */
  readonly profile?: string;
  readonly chromeArgs: readonly string[];
  readonly onReport: (report: PageReport) => void;
  readonly signal: AbortSignal;
}

/** @throws ToolError `NO_BROWSER`, `BROWSER_CRASHED`, `ABORTED`. */
export async function runInBrowser(request: PageRequest, options: BrowserOptions): Promise<PageOutcome> {
  options.signal.throwIfAborted();
  const context = await launch(options);
  try {
    const page = context.pages()[0] ?? (await context.newPage());
    return await Promise.race([runInPage(page, request, options), watch(context, page, options.signal)]);
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

async function runInPage(page: Page, request: PageRequest, { onReport }: BrowserOptions): Promise<PageOutcome> {
  await page.exposeFunction('webmoeReport', onReport);
  await page.goto(`http://${pageHost}/page.html`, { timeout: openLimitMs });
  await page.waitForFunction(() => window.webmoeGenerate !== undefined, undefined, { timeout: openLimitMs });
  return page.evaluate(async (value) => {
    if (!window.webmoeGenerate) throw new Error('the page lost its script');
    return window.webmoeGenerate(value);
  }, request);
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
