/** The model and its memory: facts, the expert budget, another file, what is installed. */
import { useEffect, useId, useRef } from 'preact/hooks';
import type { Engine, LoadedModel } from '../../src/index';
import type { ModelState } from '../model-session';
import { formatBytes, formatCount } from '../numbers';
import { BudgetChoice } from './budget-choice';
import { InstalledModels } from './installed-models';

interface SettingsDialogProps {
  readonly open: boolean;
  readonly engine: Engine;
  readonly model: ModelState;
  readonly expertPercent: number;
  readonly onClose: () => void;
  readonly onBudget: (percent: number) => void;
  readonly onFile: (file: File) => void;
  readonly onEmbedded: () => void;
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
      <FileChoice {...props} />
      {open && <InstalledModels engine={engine} loadedId={model.status === 'ready' ? model.model.modelId : null} />}
    </dialog>
  );
}

function ModelFacts({ model }: { readonly model: LoadedModel }) {
  const facts: Array<[name: string, value: string]> = [
    ['Model', `${model.name} (${model.architecture})`],
    ['Layers', `${model.layers}, ${model.moeLayers === model.layers ? 'all' : model.moeLayers} with experts`],
    ['Experts', `${model.experts} per layer, ${model.expertsPerToken} used per token`],
    ['On the GPU', `${model.slotsPerLayer} experts per layer; ${formatBytes(model.plannedGpuBytes)} with everything`],
    ['Context', `${formatCount(model.contextLength)} tokens`],
    ['GPU', model.adapter],
  ];
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function FileChoice({ model, onFile, onEmbedded }: SettingsDialogProps) {
  return (
    <fieldset>
      <legend>Another model</legend>
      <p>
        Choose an OLMoE model in a GGUF file (F32, F16, BF16, Q8_0 or Q4_0), or drop one anywhere on the page. For
        example OLMoE-1B-7B-0924-Instruct in Q4_0, about 4 GB.
      </p>
      <p class="buttons">
        <label class="file-button">
          <input
            type="file"
            accept=".gguf"
            onChange={(event) => {
              const file = event.currentTarget.files?.[0];
              event.currentTarget.value = '';
              if (file) onFile(file);
            }}
          />
          <span class="file-button-face">Choose a GGUF file</span>
        </label>
        {model.choice.kind === 'file' && (
          <button type="button" onClick={onEmbedded}>
            Back to the demonstration model
          </button>
        )}
      </p>
    </fieldset>
  );
}
