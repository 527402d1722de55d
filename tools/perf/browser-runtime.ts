/** The bench in headless Chromium, driven over Playwright's bridge. Owns the page's way to this process; no numbers. */
import type { Page } from 'playwright';
import { pageUrl, withPage } from '../engine-page/browser-page.ts';
import type { FoundModel } from '../engine-page/model-file.ts';
import { servePage } from '../engine-page/page-server.ts';
import { watchSignals } from '../engine-page/run-engine.ts';
import { ToolError } from '../tool-error.ts';
import type { PeerFiles } from './peers/peer-files.ts';
import type { GetPeer, Peer, PeerName } from './peers/peer-protocol.ts';
import type { Bench } from './protocol.ts';

const openLimitMs = 60_000;

/**
 * `use` gets the bench, the browser's name with its version, and the other runtimes.
 * @throws ToolError `NO_BROWSER`, `BROWSER_CRASHED`, `ABORTED`, and what the engine or `use` throws.
 */
export async function withBrowserBench<T>(
  model: FoundModel,
  chromeArgs: readonly string[],
  peers: PeerFiles | null,
  use: (bench: Bench, browser: string, getPeer: GetPeer) => Promise<T>,
): Promise<T> {
  const signal = watchSignals();
  const server = await servePage([...model.files, ...(peers?.files ?? [])], 'perf', true);
  try {
    return await withPage({ port: server.port, chromeArgs, signal }, async (page) => {
      await page.goto(`${pageUrl}#${[model.url, JSON.stringify(model.forecast)].map(encodeURIComponent).join('&')}`, {
        timeout: openLimitMs,
      });
      await page.waitForFunction(() => window.webmoePerf !== undefined, undefined, { timeout: openLimitMs });
      return use(connect(page), await readBrowserName(page), (name) => connectPeer(page, name));
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
    getPrompt: getMethod('getPrompt'),
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

/** @throws ToolError `PEER_FAILED` with what the other runtime said. */
function connectPeer(page: Page, name: PeerName): Peer {
  const getMethod =
    (method: keyof Peer) =>
    async (...args: readonly unknown[]): Promise<unknown> => {
      const call = [name, method, args] as const;
      const outcome = await page.evaluate(([peer, called, values]) => window.webmoePeers?.(peer, called, values), call);
      if (!outcome) throw new ToolError('INTERNAL', 'the page lost its script');
      if (!outcome.ok) throw new ToolError('PEER_FAILED', `${name}: ${outcome.message}`);
      return outcome.result;
    };
  const methods: Record<keyof Peer, unknown> = {
    open: getMethod('open'),
    run: getMethod('run'),
    close: getMethod('close'),
  };
  return methods as Peer;
}

async function readBrowserName(page: Page): Promise<string> {
  const session = await page.context().newCDPSession(page);
  try {
    return (await session.send('Browser.getVersion')).product;
  } finally {
    await session.detach();
  }
}
