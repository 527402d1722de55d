/**
 * A Chromium of one tab, driven over its own debugging pipe. Playwright turns the back/forward cache off, and loses a page
 * that comes back from it. Owns the process and its profile; knows no page.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { chromiumArgs, ensureChromium } from '../../tools/chromium';

interface Answer {
  readonly id?: number;
  readonly error?: { readonly message: string };
  readonly result?: unknown;
}

interface Evaluated {
  readonly result: { readonly value?: unknown };
  readonly exceptionDetails?: unknown;
}

export interface RawTab {
  /** The page that is left goes on as far as the browser lets it. */
  goTo(url: string): Promise<void>;
  /** An expression's value, or what its promise gives. @throws when it throws, and where no answer comes in time. */
  evaluate<T>(expression: string, limitMs?: number): Promise<T>;
  /** Waits until an expression is true, also through changes of the page. */
  waitFor(expression: string, limitMs?: number): Promise<void>;
}

export interface RawChromium {
  readonly tab: RawTab;
  /** Another tab, in front. */
  openTab(url: string): Promise<RawTab>;
  close(): Promise<void>;
}

export async function launchRawChromium(args: readonly string[]): Promise<RawChromium> {
  const profile = await mkdtemp(join(tmpdir(), 'webmoe-raw-'));
  const flags = ['--headless=new', ...chromiumArgs, ...args, '--remote-debugging-pipe', `--user-data-dir=${profile}`];
  const browser = spawn(ensureChromium(), flags, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
  const send = connect(browser);
  const attach = async (targetId: string): Promise<RawTab> => {
    const { sessionId } = await send<{ sessionId: string }>('Target.attachToTarget', { targetId, flatten: true });
    const evaluate = async <T>(expression: string, limitMs = 60_000): Promise<T> => {
      const request = { expression, awaitPromise: true, returnByValue: true };
      const late = wait(limitMs, undefined, { ref: false }).then(() => {
        throw new Error(`no answer in ${limitMs} ms: ${expression}`);
      });
      const { result, exceptionDetails } = await Promise.race([
        send<Evaluated>('Runtime.evaluate', request, sessionId),
        late,
      ]);
      if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
      return result.value as T;
    };
    return {
      async goTo(url) {
        await send('Page.navigate', { url }, sessionId);
      },
      evaluate,
      async waitFor(expression, limitMs = 60_000) {
        const start = performance.now();
        // A page that is being left answers with an error, or not at all.
        while (!(await evaluate(`Boolean(${expression})`, 2000).catch(() => false))) {
          if (performance.now() - start > limitMs) throw new Error(`not true after ${limitMs} ms: ${expression}`);
          await wait(50);
        }
      },
    };
  };
  const { targetInfos } = await send<{ targetInfos: { targetId: string; type: string }[] }>('Target.getTargets', {});
  const first = targetInfos.find(({ type }) => type === 'page');
  if (!first) throw new Error('Chromium opened no tab');
  return {
    tab: await attach(first.targetId),
    async openTab(url) {
      const { targetId } = await send<{ targetId: string }>('Target.createTarget', { url });
      await send('Target.activateTarget', { targetId });
      return attach(targetId);
    },
    async close() {
      const gone = new Promise((resolve) => browser.once('exit', resolve));
      browser.kill();
      await gone;
      await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

type Send = <T>(method: string, params: object, sessionId?: string) => Promise<T>;

/** Messages are JSON, each ended by a zero byte. */
function connect({ stdio }: ChildProcess): Send {
  const [, , , input, output] = stdio as unknown as [unknown, unknown, unknown, Writable, Readable];
  const waiting = new Map<number, (answer: Answer) => void>();
  let rest = '';
  let lastId = 0;
  output.setEncoding('utf8');
  output.on('data', (text: string) => {
    const messages = (rest + text).split('\0');
    rest = messages.pop() ?? '';
    for (const message of messages) {
      const answer: Answer = JSON.parse(message);
      if (answer.id !== undefined) waiting.get(answer.id)?.(answer);
    }
  });
  return <T>(method: string, params: object, sessionId?: string) =>
    new Promise<T>((resolve, reject) => {
      const id = ++lastId;
      waiting.set(id, ({ error, result }) => {
        waiting.delete(id);
        if (error) reject(new Error(`${method}: ${error.message}`));
        else resolve(result as T);
      });
      input.write(`${JSON.stringify({ id, method, params, ...(sessionId && { sessionId }) })}\0`);
    });
}
