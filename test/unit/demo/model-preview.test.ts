import { expect, it } from 'vitest';
import { getBudget } from '../../../demo/model-preview';
import { EXPERT_PERCENTS } from '../../../demo/preferences';
import type { MemoryPreview } from '../../../src/entries/inspect';

it('a model is loaded with the budget in use, or with the next larger one that is enough for it', () => {
  const memory = {} as MemoryPreview;
  const choose = (smallest: number, expertPercent: number) => {
    const budgets = EXPERT_PERCENTS.filter((percent) => percent >= smallest).map((percent) => ({ percent, memory }));
    return getBudget({ budgets }, expertPercent).percent;
  };
  expect([25, 50, 75, 100].map((percent) => choose(13, percent))).toEqual([25, 50, 75, 100]);
  expect([25, 50, 75, 100].map((percent) => choose(60, percent))).toEqual([75, 75, 75, 100]);
  expect(choose(100, 25)).toBe(100);
});
