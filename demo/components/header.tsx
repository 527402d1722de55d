/** Name, model and state of the page, and the two buttons that are always there. */
import type { ModelState } from '../model-session';

interface HeaderProps {
  readonly model: ModelState;
  readonly canClear: boolean;
  readonly onNewChat: () => void;
  readonly onSettings: () => void;
}

export function Header({ model, canClear, onNewChat, onSettings }: HeaderProps) {
  return (
    <header class="page-header">
      <h1 class="brand">
        <img src="./favicon.svg" alt="" width="26" height="26" /> webmoe
      </h1>
      <p class="model-state" data-status={model.status} role="status">
        <span class="dot" aria-hidden="true" />
        <span class="model-name">{getStateText(model)}</span>
      </p>
      <button type="button" onClick={onNewChat} disabled={!canClear}>
        New chat
      </button>
      <button type="button" onClick={onSettings} aria-haspopup="dialog">
        Model<span class="wide-only"> and memory</span>
      </button>
    </header>
  );
}

function getStateText(model: ModelState): string {
  if (model.status === 'loading') return 'Loading the model';
  if (model.status === 'failed') return 'No model';
  return `${model.model.name} is ready`;
}
