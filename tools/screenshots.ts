/**
 * `npm run screenshots`: the demo's main states as pictures in docs/screenshots, which the README shows: an answered chat, a
 * narrow dark screen while an answer streams, the settings. On the real model; the texts are what it says.
 */
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright';
import { chromiumArgs, ensureChromium } from './chromium.ts';
import { serveDemo } from './demo.ts';
import { root } from './program.ts';
import { ToolError } from './tool-error.ts';

const answerMs = 120_000;

interface Picture {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly colorScheme: 'light' | 'dark';
  /** Brings the page, its model ready, to the state that is shown. */
  readonly show: (page: Page) => Promise<void>;
}

const pictures: readonly Picture[] = [
  {
    name: 'chat-light',
    width: 1120,
    height: 820,
    colorScheme: 'light',
    async show(page) {
      await page.getByRole('button', { name: /Music/ }).click();
      await page.locator('.answer[data-phase=done]').waitFor({ timeout: answerMs });
    },
  },
  {
    name: 'chat-narrow-dark',
    width: 360,
    height: 740,
    colorScheme: 'dark',
    async show(page) {
      await page.getByRole('button', { name: /Book a table/ }).click();
      await page.locator('.answer[data-phase=done]').waitFor({ timeout: answerMs });
    },
  },
  {
    name: 'model-and-memory',
    width: 1120,
    height: 1000,
    colorScheme: 'light',
    async show(page) {
      await page.getByRole('button', { name: /^Model/ }).click();
      await page.getByRole('dialog', { name: 'Model and memory' }).getByText('in use').waitFor();
    },
  },
];

export async function run(args: string[]): Promise<number> {
  if (args.length > 0) throw new ToolError('BAD_ARGUMENT', `screenshots takes no arguments, not "${args.join(' ')}"`);
  const { server, url } = await serveDemo(0);
  const browser = await chromium.launch({ executablePath: ensureChromium(), args: [...chromiumArgs] });
  try {
    for (const picture of pictures) await take(browser, url, picture);
  } finally {
    await browser.close();
    await server.close();
  }
  return 0;
}

async function take(browser: Browser, url: string, { name, width, height, colorScheme, show }: Picture): Promise<void> {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme });
  await page.goto(url);
  await page.locator('.model-state', { hasText: /is ready$/ }).waitFor({ timeout: answerMs });
  await show(page);
  const path = join('docs/screenshots', `${name}.png`);
  // What moves is at its end, and the cursor does not blink.
  await page.screenshot({ path: join(root, path), animations: 'disabled', caret: 'hide' });
  console.log(path);
  await page.close();
}
