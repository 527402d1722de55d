/** The page on an engine that says what the test wants: what it shows, and what its buttons do. */
import { h, render } from 'preact';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { App } from '../../../demo/app';
import { Conversation } from '../../../demo/conversation';
import { ConversationArchive } from '../../../demo/conversation-archive';
import { ModelSession } from '../../../demo/model-session';
import { MemoryStorage } from '../../unit/demo/memory-storage';
import { type EngineScript, ScriptedEngine, scriptedModel } from '../../unit/worker/scripted-engine';

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
