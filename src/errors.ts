/**
 * The one error class that leaves webmoe, and the list of its codes.
 * Never knows where an error is shown: messages are plain text that name the limit, the value and the remedy.
 */

/** What can go wrong, as a caller may want to tell apart. Stable: callers switch on these. */
export type ErrorCode =
  /** The bytes are not the model file they claim to be (magic, truncation, a tensor outside the file, absurd counts). */
  | 'BAD_FILE'
  /** A well-formed file of a kind that webmoe does not run (architecture, tensor type, tokenizer, shape). */
  | 'UNSUPPORTED'
  /** An argument of a call is out of its range or contradicts another. */
  | 'BAD_ARGUMENT'
  /** The prompt does not fit into the context. */
  | 'CONTEXT_OVERFLOW'
  /** The GPU budget is below what the model needs at least. */
  | 'BUDGET_TOO_SMALL'
  /** No WebGPU, or no adapter. */
  | 'NO_WEBGPU'
  /** The GPU refused an allocation, or the byte ledger did. */
  | 'OUT_OF_GPU_MEMORY'
  /** The GPU device was lost. */
  | 'DEVICE_LOST'
  /** The GPU reported a validation or internal error: a bug of webmoe or of the driver. */
  | 'GPU_ERROR'
  /** The network failed, or a server answered what was not asked for. */
  | 'NETWORK'
  /** Browser storage is full. */
  | 'STORAGE_FULL'
  /** Browser storage failed, or lost something it had. */
  | 'STORAGE'
  /** Stored bytes do not have the digest that was noted at install. */
  | 'CORRUPT'
  /** No model is loaded, or no such model is installed. */
  | 'NOT_LOADED'
  /** The engine is busy with another call of the same kind. */
  | 'BUSY'
  /** The worker died or could not be started. */
  | 'WORKER_DEAD'
  /** The caller aborted. */
  | 'ABORTED'
  /** Anything else: a bug. */
  | 'INTERNAL';

/** An error with a code that survives the worker boundary. */
export class EngineError extends Error {
  override readonly name = 'EngineError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Throws `INTERNAL` when a condition that only a bug can break is broken. */
export function assert(condition: unknown, claim: string): asserts condition {
  if (!condition) throw new EngineError('INTERNAL', `assertion failed: ${claim}`);
}
