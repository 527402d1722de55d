/**
 * What the reader has chosen, kept between visits: the expert budget, how answers are made, whether the map is unfolded.
 * What this browser has no room for, or may not keep, counts until the page is left.
 */

export const EXPERT_PERCENTS = [25, 50, 75, 100] as const;
const DEFAULT_EXPERT_PERCENT = 50;
const EXPERT_PERCENT_KEY = 'webmoe.expertPercent';
const MAP_OPEN_KEY = 'webmoe.mapOpen';
const ANSWERS_KEY = 'webmoe.answers';

/** Choices of this page that could not be stored. */
const unstored = new Map<string, string>();

/** False once a choice could not be stored. */
export function arePreferencesKept(): boolean {
  return unstored.size === 0;
}

function read(key: string): string | null {
  return unstored.get(key) ?? getStorage()?.getItem(key) ?? null;
}

function write(key: string, text: string): void {
  unstored.set(key, text);
  try {
    const storage = getStorage();
    storage?.setItem(key, text);
    if (storage) unstored.delete(key);
  } catch {
    // Full: see arePreferencesKept.
  }
}

export function readExpertPercent(): number {
  const stored = Number(read(EXPERT_PERCENT_KEY));
  return EXPERT_PERCENTS.find((percent) => percent === stored) ?? DEFAULT_EXPERT_PERCENT;
}

export function writeExpertPercent(percent: number): void {
  write(EXPERT_PERCENT_KEY, String(percent));
}

export function readMapOpen(): boolean {
  return read(MAP_OPEN_KEY) !== 'false';
}

export function writeMapOpen(open: boolean): void {
  write(MAP_OPEN_KEY, String(open));
}

/** How answers are made. */
export interface AnswerSettings {
  /** Empty: none. */
  readonly systemPrompt: string;
  readonly temperature: number;
  readonly topP: number;
  readonly maxTokens: number;
}

/** The sampling is the one that the embedded model's card shows. */
export const DEFAULT_ANSWER_SETTINGS: AnswerSettings = {
  systemPrompt: '',
  temperature: 0.7,
  topP: 0.6,
  maxTokens: 256,
};

export const SETTING_RANGES = {
  temperature: { min: 0, max: 2, step: 0.1 },
  topP: { min: 0.05, max: 1, step: 0.05 },
  maxTokens: { min: 16, max: 2048, step: 16 },
} as const;

/** What is missing, or out of its range, is the default. */
export function readAnswerSettings(): AnswerSettings {
  let stored: Partial<Record<keyof AnswerSettings, unknown>> = {};
  try {
    stored = JSON.parse(read(ANSWERS_KEY) ?? '{}') ?? {};
  } catch {
    // Spoilt: the defaults.
  }
  const getNumber = (name: keyof typeof SETTING_RANGES): number => {
    const { min, max } = SETTING_RANGES[name];
    const value = stored[name];
    return typeof value === 'number' && value >= min && value <= max ? value : DEFAULT_ANSWER_SETTINGS[name];
  };
  return {
    systemPrompt: typeof stored.systemPrompt === 'string' ? stored.systemPrompt : '',
    temperature: getNumber('temperature'),
    topP: getNumber('topP'),
    maxTokens: getNumber('maxTokens'),
  };
}

export function writeAnswerSettings(settings: AnswerSettings): void {
  write(ANSWERS_KEY, JSON.stringify(settings));
}

/** Null where the user has forbidden storage. */
export function getStorage(): Storage | null {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

/** What a tab keeps for itself, also over reloads; null where the user has forbidden it. */
export function getTabStorage(): Storage | null {
  try {
    return window.sessionStorage;
  } catch {
    return null;
  }
}
