/** The experts' map under the conversation, with the budget that shapes it. Folded and unfolded by the reader, for good. */
import { useState } from 'preact/hooks';
import type { ModelState } from '../model-session';
import { readMapOpen, writeMapOpen } from '../preferences';
import { BudgetChoice } from './budget-choice';
import { ResidencyMap } from './residency-map';

interface ResidencyPanelProps {
  /** [moeLayers, experts] after the latest token, or what changed since. */
  readonly pages: Uint8Array;
  readonly model: Extract<ModelState, { readonly status: 'ready' }>;
  readonly expertPercent: number;
  readonly onBudget: (percent: number) => void;
}

export function ResidencyPanel({ pages, model, expertPercent, onBudget }: ResidencyPanelProps) {
  const [open, setOpen] = useState(readMapOpen);
  const { moeLayerIndices, experts, slotsPerLayer } = model.model;
  return (
    <details
      class="residency"
      open={open}
      onToggle={(event) => {
        setOpen(event.currentTarget.open);
        writeMapOpen(event.currentTarget.open);
      }}
    >
      <summary>
        Expert map <span class="quiet">{`${slotsPerLayer} of ${experts} per layer`}</span>
      </summary>
      {open && (
        <div class="residency-body">
          <ResidencyMap pages={pages} {...{ moeLayerIndices, experts, slotsPerLayer }} />
          <BudgetChoice model={model} expertPercent={expertPercent} onBudget={onBudget} />
        </div>
      )}
    </details>
  );
}
