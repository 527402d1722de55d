/** The page on an engine that says what the test wants: what it shows, and what its buttons do. */
import { h, render } from 'preact';
import { act } from 'preact/test-utils';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { App } from '../../../demo/app';
import { Conversation } from '../../../demo/conversation';
import { ConversationArchive } from '../../../demo/conversation-archive';
import { ModelSession } from '../../../demo/model-session';
import { EngineError } from '../../../src/errors';
import { MemoryStorage } from '../../unit/demo/memory-storage';
import { type EngineScript, ScriptedEngine, scriptedModel, scriptedResult } from '../../unit/worker/scripted-engine';

let host: HTMLElement;
beforeEach(() => {
  localStorage.clear();
  host = document.body.appendChild(document.createElement('div'));
});
afterEach(() => {
  render(null, host);
  host.remove();
});

function openPage(script: EngineScript) {
  const engine = new ScriptedEngine({ load: async () => scriptedModel, listModels: async () => [], ...script });
  const session = new ModelSession(engine);
  const archive = new ConversationArchive(new MemoryStorage());
  const conversation = new Conversation({ engine, archive, hasChatTemplate: () => true });
  render(h(App, { engine, session, conversation, archive }), host);
  return { session, conversation, archive };
}

/** Waits until the page says it. */
async function waitForText(text: string): Promise<void> {
  await expect.poll(() => host.textContent).toContain(text);
}

function getButton(name: string): HTMLButtonElement {
  const button = [...host.querySelectorAll('button')].find(({ textContent }) => textContent?.startsWith(name));
  if (!button) throw new Error(`the page has no button "${name}"`);
  return button;
}

/** Resolves when the page has taken it in. */
async function type(field: string, text: string): Promise<HTMLInputElement> {
  const input = host.querySelector<HTMLInputElement>(field);
  if (!input) throw new Error(`the page has no ${field}`);
  await act(() => {
    input.value = text;
    input.dispatchEvent(new Event('input', { bubbles: true }));
  });
  return input;
}

function chooseFile(name: string): void {
  const input = host.querySelector<HTMLInputElement>('input[type=file]');
  const transfer = new DataTransfer();
  transfer.items.add(new File(['GGUF'], name));
  if (!input) throw new Error('the page has no place for a file');
  input.files = transfer.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
}

describe('a file of the user’s', () => {
  it('is said to be read where it is, and nowhere to be installed', async () => {
    const files: Array<(model: typeof scriptedModel) => void> = [];
    const slots = { experts: 8, slotsPerLayer: 4 };
    openPage({
      load: (source) =>
        source.kind === 'url'
          ? Promise.resolve({ ...scriptedModel, ...slots })
          : new Promise((resolve) => files.push(resolve)),
    });
    await waitForText('Installed into this browser and loaded in');
    await waitForText('paged in from browser storage when needed');
    chooseFile('mine.gguf');
    await waitForText('Loading mine.gguf');
    await vi.waitUntil(() => files.length === 1);
    expect(host.querySelector('.load')?.textContent).toContain('read where it is: this browser keeps no copy');
    expect(host.querySelector('.load')?.textContent).not.toMatch(/install/i);
    files[0]?.({ ...scriptedModel, ...slots, installed: false });
    await waitForText('paged in from your file when needed');
    expect(host.querySelector('.welcome')?.textContent).toContain('Read from your file where it is, without a copy');
    expect(host.querySelector('.welcome')?.textContent).not.toMatch(/install|storage/i);
  });
});

describe('a model whose download goes on behind', () => {
  it('is not said to be in this browser', async () => {
    openPage({ load: async () => ({ ...scriptedModel, experts: 8, slotsPerLayer: 4, isLocal: false }) });
    await waitForText('before all of it was in this browser');
    expect(host.querySelector('.welcome')?.textContent).toContain('from the network what is not there yet');
    expect(host.querySelector('.welcome')?.textContent).not.toContain('nstalled');
  });
});

describe('what stands in the composer', () => {
  it('goes when it is sent, and stays when something else is asked', async () => {
    const asked: string[] = [];
    const { conversation } = openPage({
      async *generate(request) {
        asked.push(request.messages?.at(-1)?.content ?? '');
        if (asked.length === 1) throw new EngineError('CONTEXT_OVERFLOW', 'too long');
        yield { type: 'done', result: scriptedResult };
      },
    });
    const draft = () => host.querySelector<HTMLTextAreaElement>('#question')?.value;
    await waitForText('Book a table');
    await type('#question', 'half a thought');
    getButton('Book a table').click();
    await waitForText('CONTEXT_OVERFLOW');
    expect(draft()).toBe('half a thought');
    const { chatId } = conversation.value;
    getButton('Ask this in a new chat').click();
    await expect.poll(() => asked.length).toBe(2);
    expect(conversation.value.chatId).not.toBe(chatId);
    await expect.poll(() => conversation.value.answering).toBe(false);
    expect(draft()).toBe('half a thought');
    await expect.poll(() => getButton('Send').disabled).toBe(false);
    getButton('Send').click();
    await expect.poll(() => asked.length).toBe(3);
    await expect.poll(draft).toBe('');
    expect(asked).toEqual([asked[0], asked[0], 'half a thought']);
  });
});

describe('a model that the budget is too small for', () => {
  it('fails with the budget to choose beside the error', async () => {
    const budgets: unknown[] = [];
    openPage({
      async load(_source, options) {
        budgets.push(options?.expertBudget);
        if (budgets.length === 1) throw new EngineError('BUDGET_TOO_SMALL', 'a token needs 6 slots');
        return scriptedModel;
      },
    });
    await waitForText('a token needs 6 slots');
    const larger = host.querySelector<HTMLInputElement>('.card input[type=radio][value="75"]');
    larger?.click();
    await waitForText('Scripted model is ready');
    expect(budgets).toEqual([{ percent: 50 }, { percent: 75 }]);
    expect(localStorage.getItem('webmoe.expertPercent')).toBe('75');
    expect(host.querySelector<HTMLInputElement>('dialog input[type=radio]:checked')?.value).toBe('75');
  });
});

describe('an address that the page may not ask', () => {
  it('is refused by name before anything is asked', async () => {
    openPage({});
    await waitForText('Scripted model is ready');
    const fetches = vi.spyOn(globalThis, 'fetch');
    const input = await type('.look-up input', 'http://models.example/a.gguf');
    input.form?.requestSubmit();
    await waitForText('"http://models.example/a.gguf" is an address of http://models.example');
    expect(host.textContent).toContain('BAD_ARGUMENT');
    expect(fetches).not.toHaveBeenCalled();
    fetches.mockRestore();
  });
});
