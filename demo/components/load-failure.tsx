/** Shown when there is no model: why, and every way on from here. */
import type { ErrorCode } from '../../src/index';
import { type ModelState, OUTSIDE_CHOICES } from '../model-session';
import { BudgetChoice } from './budget-choice';
import { ErrorNotice } from './error-notice';

/** Another budget may be the way on. */
const BUDGET_CODES: ReadonlySet<ErrorCode> = new Set(['BUDGET_TOO_SMALL', 'OUT_OF_GPU_MEMORY']);

interface LoadFailureProps {
  readonly model: Extract<ModelState, { readonly status: 'failed' }>;
  readonly expertPercent: number;
  readonly onBudget: (percent: number) => void;
  readonly onRetry: () => void;
  readonly onEmbedded: () => void;
}

export function LoadFailure({ model, expertPercent, onBudget, onRetry, onEmbedded }: LoadFailureProps) {
  const { error } = model;
  return (
    <section class="card" aria-label="The model could not be loaded">
      <ErrorNotice error={error}>
        {error.code === 'NO_WEBGPU' && <WebGpuAdvice />}
        {BUDGET_CODES.has(error.code) && (
          <BudgetChoice model={model} expertPercent={expertPercent} onBudget={onBudget} />
        )}
        <p class="buttons">
          <button type="button" class="primary" onClick={onRetry}>
            Try again
          </button>
          {OUTSIDE_CHOICES.has(model.choice.kind) && (
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
