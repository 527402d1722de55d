import { afterEach, describe, expect, it, vi } from 'vitest';
import { MemoryStorage } from './memory-storage';

const SETTINGS = { systemPrompt: 'Be brief.', temperature: 0, topP: 1, maxTokens: 64 };

/** The module as a newly opened page has it. */
async function open(localStorage: MemoryStorage | null) {
  vi.stubGlobal('window', {
    get localStorage() {
      if (!localStorage) throw new DOMException('forbidden', 'SecurityError');
      return localStorage;
    },
  });
  vi.resetModules();
  return import('../../../demo/preferences');
}

afterEach(() => vi.unstubAllGlobals());

describe('preferences', () => {
  it('are there again when the page is opened again', async () => {
    const storage = new MemoryStorage();
    const before = await open(storage);
    before.writeExpertPercent(75);
    before.writeMapOpen(false);
    before.writeAnswerSettings(SETTINGS);
    expect(before.arePreferencesKept()).toBe(true);
    const after = await open(storage);
    expect([after.readExpertPercent(), after.readMapOpen(), after.readAnswerSettings()]).toEqual([75, false, SETTINGS]);
  });

  it.each([
    ['full', new MemoryStorage(0)],
    ['forbidden', null],
  ])('count until the page is left where storage is %s, and say so', async (_, storage) => {
    const page = await open(storage);
    expect(page.arePreferencesKept()).toBe(true);
    page.writeExpertPercent(75);
    page.writeMapOpen(false);
    page.writeAnswerSettings(SETTINGS);
    expect([page.readExpertPercent(), page.readMapOpen(), page.readAnswerSettings()]).toEqual([75, false, SETTINGS]);
    expect(page.arePreferencesKept()).toBe(false);
    expect((await open(storage)).readExpertPercent()).toBe(50);
  });

  it('are stored again once there is room', async () => {
    const storage = new MemoryStorage(20);
    const page = await open(storage);
    page.writeAnswerSettings(SETTINGS);
    expect(page.arePreferencesKept()).toBe(false);
    vi.spyOn(storage, 'setItem').mockImplementation((key, text) => void storage.texts.set(key, text));
    page.writeAnswerSettings({ ...SETTINGS, maxTokens: 128 });
    expect(page.arePreferencesKept()).toBe(true);
    expect((await open(storage)).readAnswerSettings().maxTokens).toBe(128);
  });

  it('that are spoilt or out of range are the defaults', async () => {
    const storage = new MemoryStorage();
    storage.setItem('webmoe.expertPercent', '33');
    storage.setItem('webmoe.answers', '{"temperature": 9, "topP": "x", "maxTokens": 32, "systemPrompt": 1}');
    const page = await open(storage);
    expect(page.readExpertPercent()).toBe(50);
    const defaults = page.DEFAULT_ANSWER_SETTINGS;
    expect(page.readAnswerSettings()).toEqual({ ...defaults, maxTokens: 32 });
    storage.setItem('webmoe.answers', '{');
    expect(page.readAnswerSettings()).toEqual(defaults);
  });
});
