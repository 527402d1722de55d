/**
 * What a command and its page say to each other: calls of the engine as plain data over Playwright's bridge.
 * Owns types and the names of the bridge's ends only.
 */
import type {
  GenerateRequest,
  GenerateResult,
  LoadedModel,
  LoadOptions,
  ScoreRequest,
  ScoreResult,
  TraceEntry,
} from '../../src/engine/engine.ts';

/** Errors cross the bridge as data: Playwright would keep no code. */
export type PageOutcome<T> =
  | { readonly ok: true; readonly result: T }
  | { readonly ok: false; readonly code: string; readonly message: string };

/** The engine of the page. `load` comes first; `modelUrl` may be a path on the page's own server. */
export interface PageCalls {
  load(modelUrl: string, options: LoadOptions): Promise<PageOutcome<LoadedModel>>;
  generate(request: GenerateRequest): Promise<PageOutcome<GenerateResult>>;
  score(request: ScoreRequest): Promise<PageOutcome<ScoreResult>>;
}

/** While a call runs. `text` is the answer's next piece, `routes` the trace's next lines; the others are for people. */
export type PageReport =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'routes'; readonly entries: readonly TraceEntry[] }
  | { readonly kind: 'warning'; readonly message: string }
  | { readonly kind: 'progress'; readonly message: string };

declare global {
  interface Window {
    /** Set by the page once its script has run; called by the command. */
    webmoeCalls?: PageCalls;
    /** Set by the command; called by the page. */
    webmoeReport?: (report: PageReport) => Promise<void>;
  }
}
