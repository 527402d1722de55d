/**
 * Errors as plain data and back: code, message, stack and the chain of causes survive the worker boundary.
 * Never decides what an error means, but for two foreign kinds: a DOM AbortError is ABORTED, the rest is INTERNAL.
 */
import { EngineError } from '../errors';
import type { CauseWire, ErrorWire } from './protocol';

/** Longer chains (or cyclic ones) are cut here. */
const MAX_CAUSES = 8;

/** Any thrown value as an EngineError: itself, ABORTED for a DOM AbortError, INTERNAL for what has no code. */
export function toEngineError(thrown: unknown): EngineError {
  if (thrown instanceof EngineError) return thrown;
  if (thrown instanceof DOMException && thrown.name === 'AbortError') {
    return new EngineError('ABORTED', thrown.message, { cause: thrown });
  }
  return new EngineError('INTERNAL', getText(thrown), { cause: thrown });
}

/** Packs any thrown value for `postMessage`. */
export function toErrorWire(thrown: unknown): ErrorWire {
  return packEngineError(toEngineError(thrown), MAX_CAUSES);
}

/** The EngineError that `toErrorWire` packed. */
export function fromErrorWire(wire: ErrorWire): EngineError {
  const error = new EngineError(wire.code, wire.message, causeOptions(wire.cause));
  restoreStack(error, wire.stack);
  return error;
}

function packEngineError(error: EngineError, causesLeft: number): ErrorWire {
  return {
    code: error.code,
    message: error.message,
    stack: error.stack ?? null,
    cause: packCause(error.cause, causesLeft),
  };
}

function packCause(cause: unknown, causesLeft: number): CauseWire | null {
  if (cause === undefined || cause === null || causesLeft === 0) return null;
  if (cause instanceof EngineError) return { kind: 'engine', ...packEngineError(cause, causesLeft - 1) };
  // DOMException is an Error by prototype in browsers and in Node alike.
  if (cause instanceof Error) {
    return {
      kind: 'error',
      name: cause.name,
      message: cause.message,
      stack: cause.stack ?? null,
      cause: packCause(cause.cause, causesLeft - 1),
    };
  }
  return { kind: 'value', text: getText(cause) };
}

function unpackCause(wire: CauseWire): unknown {
  if (wire.kind === 'engine') return fromErrorWire(wire);
  if (wire.kind === 'value') return wire.text;
  const error = new Error(wire.message, causeOptions(wire.cause));
  error.name = wire.name;
  restoreStack(error, wire.stack);
  return error;
}

function causeOptions(cause: CauseWire | null): ErrorOptions {
  return cause === null ? {} : { cause: unpackCause(cause) };
}

function restoreStack(error: Error, stack: string | null): void {
  // The stack of the worker says where it happened; the one made here only says that it was unpacked.
  if (stack !== null) error.stack = stack;
}

function getText(thrown: unknown): string {
  if (thrown instanceof Error) return `${thrown.name}: ${thrown.message}`;
  try {
    return String(thrown);
  } catch {
    return 'a value that cannot be shown as text';
  }
}
