/** The experts' map under the conversation, with the budget that shapes it. Folded and unfolded by the reader, for good. */
import { useState } from 'preact/hooks';
import type { ModelState } from '../model-session';
import { readMapOpen, writeMapOpen } from '../preferences';
import { BudgetChoice } from './budget-choice';
import { ResidencyMap } from './residency-map';

interface ResidencyPanelProps {
  /** [moeLayers, experts] after the latest token. */
  readonly pages: Uint8Array;
  readonly model: Extract<ModelState, { readonly status: 'ready' }>;
  readonly expertPercent: number;
  readonly onBudget: (percent: number) => void;
}

export function ResidencyPanel({ pages, model, expertPercent, onBudget }: ResidencyPanelProps) {
  const [open, setOpen] = useState(readMapOpen);
  const { moeLayerIndices, experts, slotsPerLayer } = model.model;
  // An idle engine reports no map: after a cut, the last one shows more than there now is room for.
  const isOutdated = moeLayerIndices.some((_, layer) => countResident(pages, layer * experts, experts) > slotsPerLayer);
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
          {isOutdated && <p class="quiet">The budget has changed since: the map follows with the next token.</p>}
          <BudgetChoice model={model} expertPercent={expertPercent} onBudget={onBudget} />
        </div>
      )}
    </details>
  );
}

function countResident(pages: Uint8Array, start: number, length: number): number {
  return pages.subarray(start, start + length).reduce((count, page) => count + (page === 0 ? 0 : 1), 0);
}
