/** What a model would take, said before anything of it is downloaded but its headers. Owns the questions; shows nothing. */

import type { MemoryPreview, ModelReport } from '../src/entries/inspect';
import type { EngineError } from '../src/index';
import { asEngineError } from './thrown';

export interface ModelPreview {
  readonly report: ModelReport;
  /** At the expert budget in use, or at the smallest one where that is too small. */
  readonly memory: MemoryPreview;
  readonly percent: number;
  /** What the browser says it has left for pages, in bytes; null where it does not say. */
  readonly freeStorageBytes: number | null;
}

/** @throws EngineError */
export async function previewModel(url: string, expertPercent: number, signal: AbortSignal): Promise<ModelPreview> {
  // Not part of the page until someone asks.
  const { inspectModel } = await import('../src/entries/inspect');
  const absolute = new URL(url, document.baseURI).href;
  const report = await inspectModel({ kind: 'url', url: absolute }, { signal });
  const bindingBytes = (await navigator.gpu?.requestAdapter())?.limits.maxStorageBufferBindingSize;
  const plan = (percent: number) =>
    report.planMemory({ expertBudget: { percent }, ...(bindingBytes && { bindingBytes }) });
  const { quota, usage } = (await navigator.storage?.estimate?.()) ?? {};
  const freeStorageBytes = quota === undefined || usage === undefined ? null : quota - usage;
  const smallest = plan(100).smallest.percent;
  const percent = Math.max(expertPercent, smallest);
  return { report, memory: plan(percent), percent, freeStorageBytes };
}

export type PreviewState =
  | { readonly status: 'none' | 'looking' }
  | { readonly status: 'found'; readonly url: string; readonly preview: ModelPreview }
  | { readonly status: 'failed'; readonly error: EngineError };

export async function lookUp(url: string, expertPercent: number, signal: AbortSignal): Promise<PreviewState> {
  try {
    return { status: 'found', url, preview: await previewModel(url, expertPercent, signal) };
  } catch (thrown) {
    return { status: 'failed', error: asEngineError(thrown) };
  }
}
