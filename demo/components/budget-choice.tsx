/** The share of the experts that may be on the GPU, and what came of the latest choice. Used by the dialog and the map. */
import { useId } from 'preact/hooks';
import type { ModelState } from '../model-session';
import { formatBytes } from '../numbers';
import { EXPERT_PERCENTS } from '../preferences';
import { ErrorNotice } from './error-notice';

interface BudgetChoiceProps {
  readonly model: ModelState;
  readonly expertPercent: number;
  readonly onBudget: (percent: number) => void;
}

export function BudgetChoice({ model, expertPercent, onBudget }: BudgetChoiceProps) {
  const name = useId();
  const change = model.status === 'ready' ? model.budgetChange : null;
  return (
    <fieldset>
      <legend>Experts on the GPU</legend>
      <div class="choices">
        {EXPERT_PERCENTS.map((percent) => (
          <label key={percent}>
            <input
              type="radio"
              name={name}
              value={percent}
              checked={percent === expertPercent}
              onChange={() => onBudget(percent)}
            />
            <span>{percent} %</span>
          </label>
        ))}
      </div>
      {change?.status === 'refused' && <ErrorNotice error={change.error} />}
      {change?.status === 'done' && change.warning && (
        <p class="note" role="alert">
          {change.warning}
        </p>
      )}
      <p class="quiet" role="status">
        {getBudgetText(model)}
      </p>
    </fieldset>
  );
}

function getBudgetText(state: ModelState): string {
  if (state.status === 'loading') return 'Loading the model with this budget…';
  if (state.status === 'failed') return 'A change loads the model with this budget.';
  const { slotsPerLayer, experts, plannedGpuBytes } = state.model;
  const slots = `${slotsPerLayer} of ${experts} experts per layer; ${formatBytes(plannedGpuBytes)} of GPU memory with everything`;
  switch (state.budgetChange?.status) {
    case 'pending':
      return 'Changing the budget…';
    case 'done':
      return `Now ${slots}.`;
    case 'refused':
      return `Nothing has changed: still ${slots}.`;
    default:
      return `${slots}. Less is slower and the answers stay the same; a change works at once.`;
  }
}
