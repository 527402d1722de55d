/** Another model: from the hub, from a URL or from a file; the first two say what they would take before they are loaded. */
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { type BudgetPreview, getBudget, lookUp, type ModelPreview, type PreviewState } from '../model-preview';
import { type ModelChoice, OUTSIDE_CHOICES } from '../model-session';
import { formatBytes, formatCount, formatPercent } from '../numbers';
import { ErrorNotice } from './error-notice';
import { type Fact, Facts } from './facts';

interface ModelChooserProps {
  readonly choice: ModelChoice;
  readonly expertPercent: number;
  /** With this share of its experts on the GPU; without one, the share in use. */
  readonly onLoad: (choice: ModelChoice, expertPercent?: number) => void;
}

export function ModelChooser({ choice, expertPercent, onLoad }: ModelChooserProps) {
  const [url, setUrl] = useState('');
  const [state, setState] = useState<PreviewState>({ status: 'none' });
  const controller = useRef<AbortController | null>(null);
  const hintId = useId();
  useEffect(() => () => controller.current?.abort(), []);

  const look = async (event: Event) => {
    event.preventDefault();
    controller.current?.abort();
    const own = new AbortController();
    controller.current = own;
    setState({ status: 'looking' });
    const looked = await lookUp(url.trim(), own.signal);
    if (!own.signal.aborted) setState(looked);
  };
  const found = state.status === 'found' ? { ...state, budget: getBudget(state.preview, expertPercent) } : null;
  return (
    <fieldset>
      <legend>Another model</legend>
      <form class="look-up" onSubmit={(event) => void look(event)}>
        <label>
          <span class="visually-hidden">Name on the hub, or URL</span>
          <input
            type="text"
            required
            spellcheck={false}
            autocomplete="off"
            placeholder="hf:owner/name or https://…/model.gguf"
            aria-describedby={hintId}
            value={url}
            onInput={(event) => setUrl(event.currentTarget.value)}
          />
        </label>
        <button type="submit">Look</button>
      </form>
      <p class="quiet" id={hintId}>
        A repository on the Hugging Face Hub, a GGUF file, or a folder of safetensors files by a URL that ends in a
        slash. Looking reads the headers only.
      </p>
      <div role="status">
        {state.status === 'looking' && <p class="waiting">Reading the headers…</p>}
        {found && <Preview preview={found.preview} budget={found.budget} expertPercent={expertPercent} />}
      </div>
      {state.status === 'failed' && <ErrorNotice error={state.error} />}
      <p class="buttons">
        {found && (
          <button
            type="button"
            class="primary"
            onClick={() => onLoad({ kind: 'url', url: found.url }, found.budget.percent)}
          >
            Load it
          </button>
        )}
        <label class="file-button">
          <input
            type="file"
            accept=".gguf"
            onChange={(event) => {
              const file = event.currentTarget.files?.[0];
              event.currentTarget.value = '';
              if (file) onLoad({ kind: 'file', file });
            }}
          />
          <span class="file-button-face">Choose a GGUF file</span>
        </label>
        {OUTSIDE_CHOICES.has(choice.kind) && (
          <button type="button" onClick={() => onLoad({ kind: 'embedded' })}>
            Back to the demonstration model
          </button>
        )}
      </p>
    </fieldset>
  );
}

interface PreviewProps {
  readonly preview: ModelPreview;
  /** What it would be loaded with. */
  readonly budget: BudgetPreview;
  /** What is chosen now. */
  readonly expertPercent: number;
}

function Preview({ preview, budget, expertPercent }: PreviewProps) {
  const { report, freeStorageBytes } = preview;
  const { memory, percent } = budget;
  const { low, high } = memory.expectedHitRate;
  const facts: Fact[] = [
    ['Model', `${report.name} (${report.architecture}, ${report.expertTypes.join(', ').toUpperCase()})`],
    [
      'Experts',
      `${report.experts} per layer, ${report.expertsPerToken} used per token; ${formatBytes(report.pageBytes)} each`,
    ],
    ['Download', `${formatBytes(report.sourceBytes)}; ${formatBytes(report.residentBytes)} before the first token`],
    ['On the GPU', `${formatBytes(memory.totalBytes)} at ${percent} %: ${memory.slotsPerLayer} experts per layer`],
    ['At least', `${formatBytes(memory.smallest.totalBytes)}, at ${memory.smallest.percent} %`],
    [
      'Hit rate',
      low === high
        ? formatPercent(low)
        : `${formatPercent(low)} to ${formatPercent(high)}, as published of other models`,
    ],
    ['Context', `${formatCount(report.contextLength)} tokens`],
  ];
  return (
    <div class="preview">
      <Facts facts={facts} />
      {percent > expertPercent && (
        <p class="note">
          {expertPercent} % of its experts are too few for a token of this model: it is loaded with {percent} %.
        </p>
      )}
      {freeStorageBytes !== null && report.sourceBytes > freeStorageBytes && (
        <p class="note">
          This browser says it can keep {formatBytes(freeStorageBytes)} more: what has no room is fetched again each
          time it is needed.
        </p>
      )}
      {[...report.warnings, ...(memory.warning ? [memory.warning] : [])].map((warning) => (
        <p class="note" key={warning}>
          {warning}
        </p>
      ))}
    </div>
  );
}
