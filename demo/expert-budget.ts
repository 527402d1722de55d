/** How much of the experts the user wants on the GPU, kept between visits. */

export const EXPERT_PERCENTS = [25, 50, 75, 100] as const;
const DEFAULT_EXPERT_PERCENT = 50;
const KEY = 'webmoe.expertPercent';

export function readExpertPercent(): number {
  const stored = Number(getStorage()?.getItem(KEY));
  return EXPERT_PERCENTS.find((percent) => percent === stored) ?? DEFAULT_EXPERT_PERCENT;
}

export function writeExpertPercent(percent: number): void {
  getStorage()?.setItem(KEY, String(percent));
}

/** Null where the user has forbidden storage: the choice then lasts as long as the page. */
function getStorage(): Storage | null {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}
