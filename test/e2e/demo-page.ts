/** What a visitor does on the demo page, and what runs in it for a test. Owns the ways to the page's parts; says nothing of what must hold. */
import { expect, type Locator, type Page } from '@playwright/test';

export class DemoPage {
  readonly #getPage: () => Page;

  constructor(getPage: () => Page) {
    this.#getPage = getPage;
  }

  input(): Locator {
    return this.#getPage().getByLabel('Your message');
  }

  sendButton(): Locator {
    return this.#getPage().getByRole('button', { name: 'Send' });
  }

  stopButton(): Locator {
    return this.#getPage().getByRole('button', { name: 'Stop' });
  }

  lastAnswer(): Locator {
    return this.#getPage().locator('.answer').last();
  }

  /** Fails at once when the load does. */
  async waitForReady(): Promise<void> {
    const state = this.#getPage().locator('.model-state');
    await expect(state).not.toHaveAttribute('data-status', 'loading', { timeout: 120_000 });
    await expect(this.#getPage().locator('.card .error-notice')).toHaveCount(0);
    await expect(state).toHaveText(/is ready$/);
  }

  async ask(text: string): Promise<void> {
    await this.input().fill(text);
    await this.input().press('Enter');
  }

  /** Does nothing where there is no chat yet. */
  async startNewChat(): Promise<void> {
    const button = this.#getPage().getByRole('button', { name: 'New chat', exact: true });
    if (await button.isEnabled()) await button.click();
  }

  /** Until its answer has begun to show. */
  async askInNewChat(text: string): Promise<void> {
    await this.startNewChat();
    await expect(this.#getPage().locator('.answer')).toHaveCount(0);
    await this.ask(text);
    await expect(this.lastAnswer().locator('.markdown')).not.toBeEmpty();
  }

  /** Of the last answer's figures, the one with this name. */
  async readFigure(name: string): Promise<number> {
    const figure = this.lastAnswer()
      .locator('.stats div')
      .filter({ has: this.#getPage().getByText(name, { exact: true }) });
    return Number((await figure.locator('dd').textContent())?.replaceAll(',', ''));
  }

  async waitForAnswer(phase: 'done' | 'stopped' | 'failed'): Promise<void> {
    await expect(this.lastAnswer()).toHaveAttribute('data-phase', phase, { timeout: 90_000 });
  }

  /** What `recordTexts` kept. */
  async readSeen(kind: 'install' | 'answer' | 'map'): Promise<string[]> {
    return this.#getPage().evaluate(
      (name) => (globalThis as unknown as { seenTexts: Record<string, string[]> }).seenTexts[name] ?? [],
      kind,
    );
  }
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
