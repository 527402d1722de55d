/** Shown when there is no model: why, and every way on from here. */
import type { EngineError } from '../../src/index';
import { type ModelChoice, OUTSIDE_CHOICES } from '../model-session';
import { ErrorNotice } from './error-notice';

interface LoadFailureProps {
  readonly error: EngineError;
  readonly choice: ModelChoice;
  readonly onRetry: () => void;
  readonly onEmbedded: () => void;
}

export function LoadFailure({ error, choice, onRetry, onEmbedded }: LoadFailureProps) {
  return (
    <section class="card" aria-label="The model could not be loaded">
      <ErrorNotice error={error}>
        {error.code === 'NO_WEBGPU' && <WebGpuAdvice />}
        <p class="buttons">
          <button type="button" class="primary" onClick={onRetry}>
            Try again
          </button>
          {OUTSIDE_CHOICES.has(choice.kind) && (
            <button type="button" onClick={onEmbedded}>
              Use the small demonstration model
            </button>
          )}
        </p>
      </ErrorNotice>
    </section>
  );
}

function WebGpuAdvice() {
  if (!window.isSecureContext) {
    return <p>Browsers offer WebGPU to secure pages only: open this page over https, or from localhost.</p>;
  }
  return (
    <ul>
      <li>Use a current Chrome or Edge (113 or later), Safari 26 or later, or Firefox 141 or later on Windows.</li>
      <li>Check that graphics acceleration is switched on in the browser’s settings.</li>
      <li>On Linux, Chrome may need the flag chrome://flags/#enable-unsafe-webgpu.</li>
    </ul>
  );
}
