/** What the reader has chosen, kept between visits: the expert budget, and whether the experts' map is unfolded. */

export const EXPERT_PERCENTS = [25, 50, 75, 100] as const;
const DEFAULT_EXPERT_PERCENT = 50;
const EXPERT_PERCENT_KEY = 'webmoe.expertPercent';
const MAP_OPEN_KEY = 'webmoe.mapOpen';

export function readExpertPercent(): number {
  const stored = Number(getStorage()?.getItem(EXPERT_PERCENT_KEY));
  return EXPERT_PERCENTS.find((percent) => percent === stored) ?? DEFAULT_EXPERT_PERCENT;
}

export function writeExpertPercent(percent: number): void {
  getStorage()?.setItem(EXPERT_PERCENT_KEY, String(percent));
}

export function readMapOpen(): boolean {
  return getStorage()?.getItem(MAP_OPEN_KEY) !== 'false';
}

export function writeMapOpen(open: boolean): void {
  getStorage()?.setItem(MAP_OPEN_KEY, String(open));
}

/** Null where the user has forbidden storage: the choice then lasts as long as the page. */
function getStorage(): Storage | null {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}
