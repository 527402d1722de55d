/** The empty chat: what this is, what it can and cannot do, and questions to begin with. */
import type { ComponentChildren } from 'preact';
import type { LoadedModel } from '../../src/index';
import type { ModelChoice, ModelState } from '../model-session';
import { formatSeconds } from '../numbers';

/** What the small model was trained on: everyday tasks and small talk. */
const suggestions = [
  { label: 'Book a table', text: 'I want to book a table for two at an Italian restaurant tonight.' },
  { label: 'Find a flight', text: 'Can you find me a flight to Paris on Monday?' },
  { label: 'Order a coffee', text: 'Hi, I would like to order a large latte with oat milk, please.' },
  { label: 'Music', text: 'What kind of music do you like?' },
  { label: 'Films', text: 'Have you seen any good movies lately?' },
  { label: 'Say hello', text: 'Hi, how are you today?' },
] as const;

interface WelcomeProps {
  readonly model: Extract<ModelState, { readonly status: 'ready' }>;
  readonly onAsk: (text: string) => void;
  readonly onSettings: () => void;
  /** Below the suggestions. */
  readonly children: ComponentChildren;
}

export function Welcome({ model, onAsk, onSettings, children }: WelcomeProps) {
  const { experts, moeLayers, expertsPerToken, name } = model.model;
  const embedded = model.choice.kind === 'embedded';
  return (
    <section class="welcome" aria-label="Welcome">
      <h2>A Mixture-of-Experts model, running in this tab</h2>
      <p>
        Nothing you type leaves your computer. Each of the model’s {moeLayers} layers has {experts} experts and uses{' '}
        {expertsPerToken} of them per token. {getPagingText(model)}
      </p>
      {embedded ? (
        <p>
          {name} is a <strong>small demonstration model</strong>. It speaks simple English, can play through everyday
          dialogues, knows almost nothing, and cannot count.{' '}
          <button type="button" class="link" onClick={onSettings}>
            Load a real one
          </button>
          : from the hub, a URL or a file, also when it is larger than your GPU’s memory.
        </p>
      ) : (
        <p>
          You loaded <strong>{name}</strong> {model.choice.kind === 'file' ? 'from a file' : `from ${model.choice.url}`}
          .
        </p>
      )}
      {!model.model.hasChatTemplate && (
        <p class="note">This file has no chat template: the model continues your text instead of answering it.</p>
      )}
      {model.warnings.map((warning) => (
        <p class="note" key={warning}>
          {warning}
        </p>
      ))}
      <ul class="suggestions">
        {suggestions.map(({ label, text }) => (
          <li key={label}>
            <button type="button" onClick={() => onAsk(text)}>
              <strong>{label}</strong>
              <span class="suggestion-text">{text}</span>
            </button>
          </li>
        ))}
      </ul>
      {children}
      <p class="quiet">{getLoadText(model)}</p>
    </section>
  );
}

function getPagingText({ model, choice }: WelcomeProps['model']): string {
  const { slotsPerLayer, experts } = model;
  if (slotsPerLayer >= experts) return 'All of them are on the GPU.';
  return `Only ${slotsPerLayer} of the ${experts} are on the GPU at a time; the others are paged in from ${getSourceText(model, choice)} when needed, and the answer stays the same to the last bit.`;
}

function getSourceText({ isLocal }: LoadedModel, { kind }: ModelChoice): string {
  if (kind === 'file') return 'your file';
  return isLocal ? 'browser storage' : 'browser storage, or from the network what is not there yet,';
}

function getLoadText({ model, choice, loadMs }: WelcomeProps['model']): string {
  const seconds = formatSeconds(loadMs);
  if (choice.kind === 'file')
    return `Read from your file where it is, without a copy in this browser; loaded in ${seconds}.`;
  if (!model.isLocal) return `Loaded in ${seconds}, before all of it was in this browser.`;
  if (model.installed) return `Installed into this browser and loaded in ${seconds}.`;
  return `Already installed in this browser; loaded in ${seconds}.`;
}
