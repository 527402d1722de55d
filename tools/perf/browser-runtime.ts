/** The bench in headless Chromium, driven over Playwright's bridge. Owns the page's way to this process; no numbers. */
import type { Page } from 'playwright';
import { pageUrl, withPage } from '../engine-page/browser-page.ts';
import type { FoundModel } from '../engine-page/model-file.ts';
import { servePage } from '../engine-page/page-server.ts';
import { watchSignals } from '../engine-page/run-engine.ts';
import { ToolError } from '../tool-error.ts';
import type { Bench } from './protocol.ts';

const openLimitMs = 60_000;

/**
 * `use` gets the bench and the browser's name with its version.
 * @throws ToolError `NO_BROWSER`, `BROWSER_CRASHED`, `ABORTED`, and what the engine or `use` throws.
 */
export async function withBrowserBench<T>(
  model: FoundModel,
  chromeArgs: readonly string[],
  use: (bench: Bench, browser: string) => Promise<T>,
): Promise<T> {
  const signal = watchSignals();
  const server = await servePage(model.files, 'perf');
  try {
    return await withPage({ port: server.port, chromeArgs, signal }, async (page) => {
      await page.goto(`${pageUrl}#${[model.url, JSON.stringify(model.forecast)].map(encodeURIComponent).join('&')}`, {
        timeout: openLimitMs,
      });
      await page.waitForFunction(() => window.webmoePerf !== undefined, undefined, { timeout: openLimitMs });
      return use(connect(page), await readBrowserName(page));
    });
  } finally {
    await server.close();
  }
}

/** Every method of the bench, called in the page. */
function connect(page: Page): Bench {
  const getMethod =
    (method: keyof Bench) =>
    async (...args: readonly unknown[]): Promise<unknown> => {
      const outcome = await page.evaluate(([name, values]) => window.webmoePerf?.(name, values), [
        method,
        args,
      ] as const);
      if (!outcome) throw new ToolError('INTERNAL', 'the page lost its script');
      if (!outcome.ok) throw new ToolError(outcome.code, outcome.message);
      return outcome.result;
    };
  const methods: Record<keyof Bench, unknown> = {
    install: getMethod('install'),
    openKernels: getMethod('openKernels'),
    timeKernel: getMethod('timeKernel'),
    closeKernels: getMethod('closeKernels'),
    generate: getMethod('generate'),
    calibrate: getMethod('calibrate'),
    serveFaults: getMethod('serveFaults'),
    readPages: getMethod('readPages'),
    streamRecords: getMethod('streamRecords'),
    watchShadow: getMethod('watchShadow'),
  };
  return methods as Bench;
}

async function readBrowserName(page: Page): Promise<string> {
  const session = await page.context().newCDPSession(page);
  try {
    return (await session.send('Browser.getVersion')).product;
  } finally {
    await session.detach();
  }
}
