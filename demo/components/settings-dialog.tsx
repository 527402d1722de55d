/** The model and its memory, and how answers are made: facts, the expert budget, another model, what is installed. */
import { useEffect, useId, useRef } from 'preact/hooks';
import type { Engine, LoadedModel } from '../../src/index';
import type { ModelChoice, ModelState } from '../model-session';
import { formatBytes, formatCount } from '../numbers';
import type { AnswerSettings } from '../preferences';
import { AnswerSettingsForm } from './answer-settings';
import { BudgetChoice } from './budget-choice';
import { type Fact, Facts } from './facts';
import { InstalledModels } from './installed-models';
import { ModelChooser } from './model-chooser';

interface SettingsDialogProps {
  readonly open: boolean;
  readonly engine: Engine;
  readonly model: ModelState;
  readonly expertPercent: number;
  readonly onClose: () => void;
  readonly onBudget: (percent: number) => void;
  readonly onLoad: (choice: ModelChoice, expertPercent?: number) => void;
  readonly settings: AnswerSettings;
  readonly onSettings: (settings: AnswerSettings) => void;
}

export function SettingsDialog(props: SettingsDialogProps) {
  const { open, engine, model, onClose } = props;
  const dialog = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  return (
    <dialog ref={dialog} class="settings" aria-labelledby={titleId} onClose={onClose}>
      <div class="dialog-title">
        <h2 id={titleId}>Model and memory</h2>
        <button type="button" onClick={onClose}>
          Close
        </button>
      </div>
      <BudgetChoice model={model} expertPercent={props.expertPercent} onBudget={props.onBudget} />
      {model.status === 'ready' && <ModelFacts model={model.model} />}
      <ModelChooser choice={model.choice} expertPercent={props.expertPercent} onLoad={props.onLoad} />
      <AnswerSettingsForm settings={props.settings} onChange={props.onSettings} />
      {open && <InstalledModels engine={engine} loadedId={model.status === 'ready' ? model.model.modelId : null} />}
    </dialog>
  );
}

function ModelFacts({ model }: { readonly model: LoadedModel }) {
  const facts: Fact[] = [
    ['Model', `${model.name} (${model.architecture})`],
    ['Layers', `${model.layers}, ${model.moeLayers === model.layers ? 'all' : model.moeLayers} with experts`],
    ['Experts', `${model.experts} per layer, ${model.expertsPerToken} used per token`],
    ['On the GPU', `${model.slotsPerLayer} experts per layer; ${formatBytes(model.plannedGpuBytes)} with everything`],
    ['Context', `${formatCount(model.contextLength)} tokens`],
    ['GPU', model.adapter],
  ];
  return <Facts facts={facts} />;
}
