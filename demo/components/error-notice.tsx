/** One error: what happened in plain words, the engine's own message with its remedy, the code, and what to do now. */
import type { ComponentChildren } from 'preact';
import type { EngineError, ErrorCode } from '../../src/index';

const titles: Record<ErrorCode, string> = {
  BAD_FILE: 'This is not a complete model file',
  UNSUPPORTED: 'This model is of a kind that webmoe does not run',
  BAD_ARGUMENT: 'This cannot be done as asked',
  CONTEXT_OVERFLOW: 'The conversation no longer fits',
  BUDGET_TOO_SMALL: 'The memory budget is too small for this model',
  NO_WEBGPU: 'This browser offers no WebGPU',
  OUT_OF_GPU_MEMORY: 'The GPU has too little free memory',
  DEVICE_LOST: 'The GPU was lost',
  GPU_ERROR: 'The GPU reported an error',
  NETWORK: 'The model could not be downloaded',
  STORAGE_FULL: 'This browser has no room for the model',
  STORAGE: 'This browser’s storage failed',
  CORRUPT: 'The stored model is damaged',
  NOT_LOADED: 'No model is loaded',
  BUSY: 'The engine is busy',
  WORKER_DEAD: 'The engine stopped',
  ABORTED: 'Stopped',
  INTERNAL: 'Something went wrong inside webmoe',
};

interface ErrorNoticeProps {
  readonly error: EngineError;
  /** Buttons, and more advice. */
  readonly children?: ComponentChildren;
}

export function ErrorNotice({ error, children }: ErrorNoticeProps) {
  return (
    <div class="error-notice" role="alert">
      <h3>{titles[error.code]}</h3>
      <p>{error.message}</p>
      <p class="quiet">
        Code: <code>{error.code}</code>
      </p>
      {children}
    </div>
  );
}
