/**
 * Watches streamed text for stop texts, across pushes, and holds back what may become one.
 * Owns the held-back text only; knows no tokens.
 */
import { EngineError } from '../errors';

export interface StopResult {
  /** Text that can be shown now. */
  readonly emit: string;
  /** Whether a stop text was met; everything from its start on is dropped. */
  readonly stopped: boolean;
}

export interface StopFilter {
  push(text: string): StopResult;
  /** The held-back text, when no more text comes that could make it a stop text. */
  flush(): string;
}

/** @throws EngineError `BAD_ARGUMENT` when a stop text is empty: it would stop at once. */
export function createStopFilter(stops: readonly string[]): StopFilter {
  if (stops.includes('')) throw new EngineError('BAD_ARGUMENT', 'a stop text has 0 characters; give at least one');
  let held = '';
  let stopped = false;
  return {
    push(text) {
      if (stopped) return { emit: '', stopped };
      const pending = held + text;
      const starts = stops.map((stop) => pending.indexOf(stop)).filter((start) => start >= 0);
      stopped = starts.length > 0;
      const heldLength = Math.max(0, ...stops.map((stop) => getOverlap(pending, stop)));
      const end = stopped ? Math.min(...starts) : pending.length - heldLength;
      held = stopped ? '' : pending.slice(end);
      return { emit: pending.slice(0, end), stopped };
    },
    flush() {
      const rest = held;
      held = '';
      return rest;
    },
  };
}

/** Length of the longest suffix of `text` that is a proper prefix of `stop`. */
function getOverlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
