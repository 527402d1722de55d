/** What a model would take, said before anything of it is downloaded but its headers. Owns the questions; shows nothing. */

import type { MemoryPreview, ModelReport } from '../src/entries/inspect';
import type { EngineError } from '../src/index';
import { resolveAddress } from './model-address';
import { EXPERT_PERCENTS } from './preferences';
import { asEngineError } from './thrown';

/** A share of each layer's experts that can be chosen, and what it takes. */
export interface BudgetPreview {
  readonly percent: number;
  readonly memory: MemoryPreview;
}

export interface ModelPreview {
  readonly report: ModelReport;
  /** Those that are enough for a token of this model, smallest first; the last is 100 %. */
  readonly budgets: readonly BudgetPreview[];
  /** What the browser says it has left for pages, in bytes; null where it does not say. */
  readonly freeStorageBytes: number | null;
}

/** @throws EngineError */
export async function previewModel(url: string, signal: AbortSignal): Promise<ModelPreview> {
  const address = resolveAddress(url, document.baseURI);
  // Not part of the page until someone asks.
  const { inspectModel } = await import('../src/entries/inspect');
  const report = await inspectModel({ kind: 'url', url: address }, { signal });
  // The one that a load takes.
  const adapter = (await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' })) ?? null;
  const plan = (percent: number): BudgetPreview => ({
    percent,
    memory: report.planMemory({ expertBudget: { percent }, adapter }),
  });
  const { quota, usage } = (await navigator.storage?.estimate?.()) ?? {};
  const freeStorageBytes = quota === undefined || usage === undefined ? null : quota - usage;
  const { smallest } = plan(100).memory;
  const budgets = EXPERT_PERCENTS.filter((percent) => percent >= smallest.percent).map(plan);
  return { report, budgets, freeStorageBytes };
}

/** What the model would be loaded with: the budget in use, or the next larger one that is enough for it. */
export function getBudget({ budgets }: Pick<ModelPreview, 'budgets'>, expertPercent: number): BudgetPreview {
  return budgets.find(({ percent }) => percent >= expertPercent) as BudgetPreview;
}

export type PreviewState =
  | { readonly status: 'none' | 'looking' }
  | { readonly status: 'found'; readonly url: string; readonly preview: ModelPreview }
  | { readonly status: 'failed'; readonly error: EngineError };

export async function lookUp(url: string, signal: AbortSignal): Promise<PreviewState> {
  try {
    return { status: 'found', url, preview: await previewModel(url, signal) };
  } catch (thrown) {
    return { status: 'failed', error: asEngineError(thrown) };
  }
}
