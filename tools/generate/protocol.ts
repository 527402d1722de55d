/**
 * What the command line and its page say to each other: plain data over Playwright's bridge.
 * Owns types and the names of the bridge's ends only.
 */
import type { ExpertBudget, GenerateRequest, GenerateResult, SamplingOptions } from '../../src/engine/engine.ts';
import type { StoreKind } from '../../src/store/model-store.ts';

/** What one run is, once all flags are checked. */
export interface PageRequest {
  readonly modelUrl: string;
  readonly expertBudget: ExpertBudget;
  /** Absent: the engine's default. */
  readonly store?: StoreKind;
  readonly contextLength?: number;
  readonly prompt: PagePrompt;
  readonly maxTokens: number;
  readonly sampling: SamplingOptions;
  readonly stop: readonly string[];
  readonly ignoreEos: boolean;
  /** Absent: no log-probabilities. */
  readonly topLogprobs?: number;
}

/** `text` becomes one user message where the model has a chat template, unless `raw`. */
export type PagePrompt =
  | { readonly kind: 'text'; readonly text: string; readonly raw: boolean }
  | { readonly kind: 'messages'; readonly messages: NonNullable<GenerateRequest['messages']> }
  | { readonly kind: 'tokenIds'; readonly tokenIds: readonly number[] };

/** While it runs. `text` is the answer's next piece; the others are for people. */
export type PageReport =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'warning'; readonly message: string }
  | { readonly kind: 'progress'; readonly message: string };

/** Errors cross the bridge as data: Playwright would keep no code. */
export type PageOutcome =
  | { readonly ok: true; readonly result: GenerateResult }
  | { readonly ok: false; readonly code: string; readonly message: string };

declare global {
  interface Window {
    /** Set by the page; called by the command. */
    webmoeGenerate?: (request: PageRequest) => Promise<PageOutcome>;
    /** Set by the command; called by the page. */
    webmoeReport?: (report: PageReport) => Promise<void>;
  }
}
