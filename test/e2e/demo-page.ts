/** What a visitor does on the demo page, and what runs in it for a test. Owns the ways to the page's parts; says nothing of what must hold. */
import { expect, type Locator, type Page } from '@playwright/test';

export interface DemoPage {
  input(): Locator;
  sendButton(): Locator;
  stopButton(): Locator;
  lastAnswer(): Locator;
  /** Fails at once when the load does. */
  waitForReady(): Promise<void>;
  ask(text: string): Promise<void>;
  /** Does nothing where there is no chat yet. */
  startNewChat(): Promise<void>;
  /** Until its answer has begun to show. */
  askInNewChat(text: string): Promise<void>;
  /** Of the last answer's figures, the one with this name. */
  readFigure(name: string): Promise<number>;
  waitForAnswer(phase: 'done' | 'stopped' | 'failed'): Promise<void>;
  /** What `recordTexts` kept. */
  readSeen(kind: 'install' | 'answer' | 'map'): Promise<string[]>;
}

export function createDemoPage(getPage: () => Page): DemoPage {
  async function readSeen(kind: 'install' | 'answer' | 'map'): Promise<string[]> {
    return getPage().evaluate(
      (name) => (globalThis as unknown as { seenTexts: Record<string, string[]> }).seenTexts[name] ?? [],
      kind,
    );
  }

  const input = () => getPage().getByLabel('Your message');
  const sendButton = () => getPage().getByRole('button', { name: 'Send' });
  const stopButton = () => getPage().getByRole('button', { name: 'Stop' });
  const lastAnswer = () => getPage().locator('.answer').last();

  async function waitForReady(): Promise<void> {
    const state = getPage().locator('.model-state');
    await expect(state).not.toHaveAttribute('data-status', 'loading', { timeout: 120_000 });
    await expect(getPage().locator('.card .error-notice')).toHaveCount(0);
    await expect(state).toHaveText(/is ready$/);
  }

  async function ask(text: string): Promise<void> {
    await input().fill(text);
    await input().press('Enter');
  }

  async function startNewChat(): Promise<void> {
    const button = getPage().getByRole('button', { name: 'New chat', exact: true });
    if (await button.isEnabled()) await button.click();
  }

  async function askInNewChat(text: string): Promise<void> {
    await startNewChat();
    await expect(getPage().locator('.answer')).toHaveCount(0);
    await ask(text);
    await expect(lastAnswer().locator('.markdown')).not.toBeEmpty();
  }

  async function readFigure(name: string): Promise<number> {
    const figure = lastAnswer()
      .locator('.stats div')
      .filter({ has: getPage().getByText(name, { exact: true }) });
    return Number((await figure.locator('dd').textContent())?.replaceAll(',', ''));
  }

  async function waitForAnswer(phase: 'done' | 'stopped' | 'failed'): Promise<void> {
    await expect(lastAnswer()).toHaveAttribute('data-phase', phase, { timeout: 90_000 });
  }

  return {
    input,
    sendButton,
    stopButton,
    lastAnswer,
    waitForReady,
    ask,
    startNewChat,
    askInNewChat,
    readFigure,
    waitForAnswer,
    readSeen,
  };
}

/** In the page: keeps every text that the install step and the last answer ever showed, and every map of used experts. */
export function recordTexts(): void {
  const seen = { install: [] as string[], answer: [] as string[], map: [] as string[] };
  Object.assign(globalThis, { seenTexts: seen });
  const note = (texts: string[], text: string | null | undefined) => {
    if (text && texts.at(-1) !== text) texts.push(text);
  };
  new MutationObserver(() => {
    note(seen.install, document.querySelector('.load .step-text')?.textContent);
    note(seen.answer, [...document.querySelectorAll('.answer')].at(-1)?.querySelector('.markdown')?.textContent);
    note(seen.map, document.querySelector('.residency-map [role=img] .used')?.getAttribute('d'));
  }).observe(document, { childList: true, characterData: true, subtree: true, attributeFilter: ['d'] });
}

/** In the page: writes nonsense where the engine keeps what its predictors learnt. */
export async function spoilPredictorState(): Promise<void> {
  const done = <T>(request: IDBRequest<T>) =>
    new Promise<T>((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  const database = await done(indexedDB.open('webmoe'));
  const records = database.transaction('records', 'readwrite').objectStore('records');
  for (const key of await done(records.getAllKeys())) {
    if (Array.isArray(key) && String(key[1]).startsWith('state/')) await done(records.put('spoilt', key));
  }
  database.close();
}
