/**
 * The demo as a visitor uses it, on the real model and the real engine.
 * One browser profile for all tests, in order: installed once, as a visitor would.
 */
import { readFileSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import AxeBuilder from '@axe-core/playwright';
import { expect, type Page, test } from '@playwright/test';
import { formatBytes } from '../../demo/numbers';
import { createHubFile, startHub } from '../hub/hub';
import { DemoPage, recordTexts, spoilPredictorState } from './demo-page';

test.describe.configure({ mode: 'serial' });

const isFull = Boolean(process.env.WEBMOE_FULL);
const publicFolder = new URL('../../public/', import.meta.url);
const { url: modelUrl } = JSON.parse(readFileSync(new URL('models/default.json', publicFolder), 'utf8'));
const modelPath = fileURLToPath(new URL(modelUrl, publicFolder));
/** Experts per layer, as the page says. */
let experts = 0;
let page: Page;
const foreignRequests: string[] = [];
const pageErrors: string[] = [];

test.beforeAll(async ({ browser, baseURL }) => {
  const context = await browser.newContext(baseURL ? { baseURL } : {});
  context.on('request', (request) => {
    const url = request.url();
    if (!(baseURL && url.startsWith(baseURL)) && !url.startsWith('data:')) foreignRequests.push(url);
  });
  page = await context.newPage();
  page.on('pageerror', (error) => pageErrors.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error') pageErrors.push(message.text());
  });
  await page.addInitScript(recordTexts);
});

test.afterAll(async () => {
  await page.context().close();
});

const demo = new DemoPage(() => page);
/** How long an answer is, the model decides; what needs one that is long enough tries again. */
const TRIES = { timeout: 180_000 };
const STORY = 'Tell me a long story about a fox and a well.';

test('installs the embedded model with progress in bytes', async () => {
  await page.goto('/');
  await demo.waitForReady();
  const install = await demo.readSeen('install');
  const ofTotal = ` of ${formatBytes(statSync(modelPath).size)}`;
  expect(install.filter((text) => /^[\d.]+ (kB|MB) of /.test(text) && text.endsWith(ofTotal)).length).toBeGreaterThan(
    2,
  );
  // The second where the download was slow: it then goes on behind the model.
  await expect(page.getByText(/Installed into this browser|before all of it was in this browser/)).toBeVisible();
  await expect(page.getByText('small demonstration model')).toBeVisible();
  const paging = await page.getByText(/^Nothing you type leaves/).textContent();
  experts = Number(paging?.match(/has (\d+) experts/)?.[1]);
  expect(paging).toContain(`Only ${Math.ceil(experts / 2)} of the ${experts} are on the GPU`);
});

test('streams an answer to a suggested question, token by token', async () => {
  let states: string[] = [];
  await expect(async () => {
    await demo.startNewChat();
    const before = await demo.readSeen('answer');
    await page.getByRole('button', { name: /Book a table/ }).click();
    await expect(demo.lastAnswer()).toHaveAttribute('aria-busy', 'true');
    await demo.waitForAnswer('done');
    states = (await demo.readSeen('answer')).slice(before.length);
    expect(states.length).toBeGreaterThanOrEqual(3);
  }).toPass(TRIES);
  for (const [index, state] of states.entries()) {
    if (index > 0) expect(state.length).toBeGreaterThanOrEqual(states[index - 1]?.length ?? 0);
  }
  await expect(demo.lastAnswer()).toHaveAttribute('aria-busy', 'false');
  await expect(demo.input()).toBeFocused();
});

test('says what the answer cost', async () => {
  const stats = demo.lastAnswer().locator('.stats');
  await expect(stats).toContainText(/tokens\/s[\d.]+/);
  await expect(stats).toContainText('experts on the GPU50 %');
  await expect(stats).toContainText(/hit rate\d+ %/);
  await expect(stats).toContainText(/faults\/token[\d.]+/);
  await expect(stats).toContainText(/round trips\/token[\d.]+/);
  await expect(stats).toContainText(/paged in[\d.]+ (kB|MB)/);
  const details = demo.lastAnswer().locator('.paging');
  await details.getByText('Paging in detail').click();
  await expect(details).toContainText(/Copied on a fault[\d.]+ (kB|MB)/);
  await expect(details).toContainText(/From storage[\d,]+ experts/);
  const needed = await details.locator('tbody tr td:nth-child(2)').allTextContents();
  expect(needed.length).toBeGreaterThan(0);
  expect(needed.every((text) => Number(text.replaceAll(',', '')) > 0)).toBe(true);
  await details.getByText('Paging in detail').click();
});

test('maps the experts on the GPU while the tokens stream, and folds the map away', async () => {
  expect((await demo.readSeen('map')).length).toBeGreaterThanOrEqual(3);
  const map = page.locator('.residency-map');
  await expect(map.getByRole('img')).toHaveAccessibleName(/\d+ of \d+ experts are on the GPU .*\(50 %\)/);
  await page.getByText('Expert map').click();
  await expect(map).toBeHidden();
  await page.getByText('Expert map').click();
  await expect(map).toBeVisible();
});

test('goes on with the conversation', async () => {
  await demo.ask('At 7 pm, please.');
  await expect(page.locator('.answer')).toHaveCount(2);
  await demo.waitForAnswer('done');
  await expect(demo.lastAnswer().locator('.markdown')).not.toBeEmpty();
});

test('breaks the line on Shift+Enter instead of sending', async () => {
  await demo.input().fill('one');
  await demo.input().press('Shift+Enter');
  await demo.input().pressSequentially('two');
  await expect(demo.input()).toHaveValue('one\ntwo');
  await expect(page.locator('.answer')).toHaveCount(2);
});

test('stops within a moment and keeps what was written', async () => {
  let stopMs = 0;
  await expect(async () => {
    await demo.askInNewChat(STORY);
    const startMs = Date.now();
    // Gone where the answer has ended by itself.
    await demo.stopButton().click({ timeout: 5_000 });
    await expect(demo.lastAnswer()).toHaveAttribute('aria-busy', 'false');
    stopMs = Date.now() - startMs;
    expect(await demo.lastAnswer().getAttribute('data-phase')).toBe('stopped');
  }).toPass(TRIES);
  expect(stopMs).toBeLessThan(5_000);
  await expect(demo.sendButton()).toBeVisible();
  const text = await demo.lastAnswer().locator('.markdown').textContent();
  await page.waitForTimeout(700);
  expect(await demo.lastAnswer().locator('.markdown').textContent()).toBe(text);
});

test('answers again after a stop', async () => {
  await demo.ask('Hi, how are you today?');
  await demo.waitForAnswer('done');
});

test('clears the conversation on New chat', async () => {
  await page.getByRole('button', { name: 'New chat' }).click();
  await expect(page.locator('.answer')).toHaveCount(0);
  await expect(page.getByRole('button', { name: /Book a table/ })).toBeVisible();
  await expect(demo.input()).toBeFocused();
});

test('says when a message does not fit, and offers a new chat', async () => {
  await demo.ask('Please read this. '.repeat(600));
  await demo.waitForAnswer('failed');
  await expect(page.getByRole('alert')).toContainText('CONTEXT_OVERFLOW');
  await expect(page.getByRole('button', { name: 'Ask this in a new chat' })).toBeVisible();
});

test('has no serious fault of accessibility, light and dark, and fits into 360 px', async () => {
  await demo.startNewChat();
  await demo.ask('Hi, how are you today?');
  await demo.waitForAnswer('done');
  const modelButton = page.getByRole('button', { name: /^Model/ });
  const before = page.viewportSize();
  await page.setViewportSize({ width: 360, height: 740 });
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    for (const dialogOpen of [false, true]) {
      if (dialogOpen) await modelButton.click();
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
      const { violations } = await new AxeBuilder({ page }).analyze();
      const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
      expect(serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`)).toEqual([]);
    }
    // By keyboard alone: out of the dialog, and back where the reader was.
    await page.keyboard.press('Escape');
    await expect(modelButton).toBeFocused();
  }
  await page.emulateMedia({ colorScheme: null });
  if (before) await page.setViewportSize(before);
});

test('keeps chats across reloads, answers anew what a reload cut short, and opens them again', async () => {
  const answer = await demo.lastAnswer().locator('.markdown').textContent();
  await expect(async () => {
    await demo.ask(STORY);
    await page.reload();
    await demo.waitForReady();
    await expect(demo.lastAnswer()).toHaveAttribute('data-phase', 'stopped', { timeout: 1_000 });
  }).toPass(TRIES);
  await expect(page.locator('.answer').first().locator('.markdown')).toHaveText(answer ?? '');
  const answers = await page.locator('.answer').count();
  await demo.lastAnswer().getByRole('button', { name: 'Try again' }).click();
  await demo.waitForAnswer('done');
  await expect(demo.lastAnswer().locator('.markdown')).not.toBeEmpty();
  await expect(page.locator('.answer')).toHaveCount(answers);
  await demo.startNewChat();
  const kept = page.getByRole('region', { name: 'Earlier chats' });
  await kept.getByRole('button', { name: 'Hi, how are you today?', exact: true }).click();
  await expect(page.locator('.answer')).toHaveCount(answers);
  await expect(page.locator('.answer').first().locator('.markdown')).toHaveText(answer ?? '');
  await demo.startNewChat();
  const count = await kept.getByRole('listitem').count();
  await kept
    .getByRole('button', { name: /^Remove/ })
    .first()
    .click();
  await expect(kept.getByRole('listitem')).toHaveCount(count - 1);
});

test('says what a model would take before it is downloaded', async () => {
  await page.getByRole('button', { name: /^Model/ }).click();
  const dialog = page.getByRole('dialog');
  const url = dialog.getByLabel('Name on the hub, or URL');
  await url.fill('models/no-such.gguf');
  await url.press('Enter');
  await expect(dialog.getByRole('alert')).toContainText(/NETWORK|BAD_FILE/);
  // What the browser itself says of a file that is not there is no error of the page's.
  expect(pageErrors.splice(0).filter((text) => !text.includes('404'))).toEqual([]);
  await url.fill(modelUrl);
  await url.press('Enter');
  const preview = dialog.locator('.preview');
  await expect(preview).toContainText(`Download${formatBytes(statSync(modelPath).size)}`);
  await expect(preview).toContainText(`On the GPU`);
  await expect(preview).toContainText(`${Math.ceil(experts / 2)} experts per layer`);
  await expect(preview).toContainText(/Hit rate\d+ % to \d+ %/);
  await dialog.getByRole('button', { name: 'Load it' }).click();
  await demo.waitForReady();
  await expect(page.getByText(`from ${modelUrl}`)).toBeVisible();
});

test('answers by the settings and the system prompt', async () => {
  await page.getByRole('button', { name: /^Model/ }).click();
  const dialog = page.getByRole('dialog');
  // A prompt that does not fit is one that counts, whatever a model makes of what it says.
  await dialog.getByLabel('System prompt').fill('Please read this. '.repeat(600));
  await page.keyboard.press('Escape');
  await demo.ask(STORY);
  await demo.waitForAnswer('failed');
  await expect(demo.lastAnswer().getByRole('alert')).toContainText('CONTEXT_OVERFLOW');
  await page.getByRole('button', { name: /^Model/ }).click();
  await dialog.getByLabel('System prompt').fill('Be brief.');
  await dialog.getByLabel('Longest answer').fill('16');
  // Hardly a word follows from another: such an answer is long.
  await dialog.getByLabel('Temperature').fill('2');
  await dialog.getByLabel('Top-p').fill('1');
  await page.keyboard.press('Escape');
  await expect(async () => {
    await demo.askInNewChat(STORY);
    await demo.waitForAnswer('done');
    expect(await demo.readFigure('tokens')).toBe(16);
  }).toPass(TRIES);
  await expect(demo.lastAnswer()).toContainText('Cut here: an answer may have 16 tokens');
  await page.getByRole('button', { name: /^Model/ }).click();
  await dialog.getByRole('button', { name: 'Defaults' }).click();
  await expect(dialog.getByLabel('System prompt')).toHaveValue('');
  await page.keyboard.press('Escape');
  await demo.startNewChat();
});

test('does not install again after a reload', async () => {
  await page.reload();
  await demo.waitForReady();
  // A chat that had not begun has not begun: the one before is among the earlier ones.
  await expect(page.locator('.answer')).toHaveCount(0);
  await expect(page.getByRole('region', { name: 'Earlier chats' }).getByText(STORY).first()).toBeVisible();
  await expect(page.getByText('Already installed in this browser')).toBeVisible();
  expect((await demo.readSeen('install')).filter((text) => text.includes(' of '))).toEqual([]);
  await demo.ask('Hi, how are you today?');
  await demo.waitForAnswer('done');
});

test('changes the expert budget while an answer streams, without stopping it', async () => {
  const budget = page.locator('.residency').getByRole('group', { name: 'Experts on the GPU' });
  const text = () => demo.lastAnswer().locator('.markdown').textContent();
  await expect(async () => {
    await budget.getByText('50 %', { exact: true }).click();
    await expect(budget.getByText(`${Math.ceil(experts / 2)} of ${experts} experts per layer`)).toBeVisible();
    await demo.ask(STORY);
    await expect(demo.lastAnswer().locator('.markdown')).not.toBeEmpty();
    await budget.getByText('100 %', { exact: true }).click();
    await expect(budget.getByText(`Now ${experts} of ${experts} experts per layer`)).toBeVisible();
    const textAtChange = await text();
    await demo.waitForAnswer('done');
    expect(await text()).not.toBe(textAtChange);
  }).toPass(TRIES);
  await expect(page.locator('.error-notice')).toHaveCount(0);
  await expect(demo.lastAnswer().locator('.paging')).not.toBeEmpty();
  await demo.startNewChat();
});

test('changes the expert budget at once, and keeps the choice', async () => {
  const slots = Math.ceil(experts / 4);
  await page.getByRole('button', { name: /^Model/ }).click();
  const dialog = page.getByRole('dialog', { name: 'Model and memory' });
  await dialog.getByText('25 %').click();
  await expect(dialog.getByText(`Now ${slots} of ${experts} experts per layer`)).toBeVisible();
  await expect(dialog.getByText(`${slots} experts per layer;`)).toBeVisible();
  await expect(dialog.getByText('in use')).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(dialog).toBeHidden();
  await demo.ask('What kind of music do you like?');
  await demo.waitForAnswer('done');
  await expect(demo.lastAnswer().locator('.stats')).toContainText('experts on the GPU25 %');
  await page.reload();
  await demo.waitForReady();
  await demo.startNewChat();
  await expect(page.getByText(`Only ${slots} of the ${experts}`)).toBeVisible();
});

test('warns when what the predictor had learnt is spoilt, and answers all the same', async () => {
  await page.evaluate(spoilPredictorState);
  await page.reload();
  await demo.waitForReady();
  await demo.ask('What kind of music do you like?');
  await demo.waitForAnswer('done');
  await expect(demo.lastAnswer().locator('.note')).toContainText('it starts anew');
});

test('refuses a file that is no model, and finds the way back', async () => {
  const buffer = Buffer.from('this is not a model');
  await page.locator('input[type=file]').setInputFiles({ name: 'notes.gguf', mimeType: 'text/plain', buffer });
  await expect(page.getByRole('alert')).toContainText('BAD_FILE');
  await page.getByRole('button', { name: 'Use the small demonstration model' }).click();
  await demo.waitForReady();
});

test('loads a GGUF file of the user’s', async () => {
  await page.locator('input[type=file]').setInputFiles(modelPath);
  await expect(page.getByText('from a file')).toBeVisible();
  await expect(page.getByText('Read from your file where it is, without a copy')).toBeVisible();
  await demo.ask('Hi, how are you today?');
  await demo.waitForAnswer('done');
});

test('asks no other server and logs no error', () => {
  expect(foreignRequests).toEqual([]);
  expect(pageErrors).toEqual([]);
});

test('looks at a model on a server of this computer, and loads it with the budget that it needs', async () => {
  const bytes = gunzipSync(readFileSync(new URL('../golden/e8k8-norm-clip-f32.gguf.gz', import.meta.url)));
  const hub = await startHub({ repositories: { 'some/model': { 'tiny.gguf': createHubFile(bytes) } } });
  try {
    await page.getByRole('button', { name: /^Model/ }).click();
    const dialog = page.getByRole('dialog');
    const percents = dialog.getByRole('group', { name: 'Experts on the GPU' });
    await expect(percents.getByLabel('25 %')).toBeChecked();
    const url = `${hub.url}some/model/resolve/main/tiny.gguf`;
    await dialog.getByLabel('Name on the hub, or URL').fill(url);
    await dialog.getByLabel('Name on the hub, or URL').press('Enter');
    // Every token uses all of them.
    const preview = dialog.locator('.preview');
    await expect(preview).toContainText('25 % of its experts are too few for a token of this model');
    await expect(preview).toContainText('at 100 %: 8 experts per layer');
    await dialog.getByRole('button', { name: 'Load it' }).click();
    await demo.waitForReady();
    await expect(page.getByText(`from ${url}`)).toBeVisible();
    await expect(page.getByText('All of them are on the GPU.')).toBeVisible();
    await page.getByRole('button', { name: /^Model/ }).click();
    await expect(percents.getByLabel('100 %')).toBeChecked();
    // What the model needed is no choice of the reader's.
    await page.reload();
    await demo.waitForReady();
    await page.getByRole('button', { name: /^Model/ }).click();
    await expect(percents.getByLabel('25 %')).toBeChecked();
    await page.keyboard.press('Escape');
  } finally {
    await hub.close();
  }
});

test('gets over the death of its worker', async () => {
  let tries = 0;
  await expect(async () => {
    // One that died behind the end of an answer.
    if (tries++ > 0) {
      await page.reload();
      await demo.waitForReady();
    }
    await demo.askInNewChat(STORY);
    const [worker] = page.workers();
    await worker?.evaluate(() => {
      setTimeout(() => {
        throw new Error('thrown by the test');
      });
    });
    await expect(demo.lastAnswer()).toHaveAttribute('aria-busy', 'false');
    expect(await demo.lastAnswer().getAttribute('data-phase')).toBe('failed');
  }).toPass(TRIES);
  await expect(page.getByRole('alert')).toContainText('WORKER_DEAD');
  await page.getByRole('button', { name: 'Load the model again and retry' }).click();
  await demo.waitForReady();
  await demo.waitForAnswer('done');
});

test('gets over the death of the GPU process: the same answer to the last token', async ({ browser }) => {
  const modelButton = page.getByRole('button', { name: /^Model/ });
  await demo.startNewChat();
  await modelButton.click();
  await page.getByLabel('Temperature').fill('0');
  await page.getByLabel('Longest answer').fill('48');
  await page.keyboard.press('Escape');
  // Long enough for a death in its midst: the first that is, or the last.
  let question = '';
  for (question of [STORY, 'What kind of music do you like?', 'Tell me all about your day.', 'Why is that?']) {
    await demo.askInNewChat(question);
    await demo.waitForAnswer('done');
    if ((await demo.readFigure('tokens')) >= 24) break;
  }
  const text = () => demo.lastAnswer().locator('.markdown').textContent();
  const calm = await text();
  const devtools = await browser.newBrowserCDPSession();
  for (let kills = 0; kills < (isFull ? 6 : 1); kills++) {
    await demo.startNewChat();
    await demo.ask(question);
    // At another moment each time, the first while the prompt is read.
    if (kills !== 1)
      await expect(demo.lastAnswer().locator('.markdown')).toContainText(calm?.slice(0, 1 + 12 * kills) ?? '');
    await devtools.send('Browser.crashGpuProcess');
    await demo.waitForAnswer('done');
    expect(await text()).toBe(calm);
    await expect(demo.lastAnswer().locator('.note')).toContainText('a new device was opened');
  }
});
