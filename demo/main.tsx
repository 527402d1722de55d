/** The page's entry: one engine in a worker, one model, one conversation. */
import { render } from 'preact';
import { createEngine } from '../src/index';
import { App } from './app';
import { Conversation } from './conversation';
import { ModelSession } from './model-session';

const engine = createEngine();
const session = new ModelSession(engine);
const conversation = new Conversation({
  engine,
  hasChatTemplate: () => session.value.status !== 'ready' || session.value.model.hasChatTemplate,
});
const root = document.getElementById('app');
if (root) render(<App engine={engine} session={session} conversation={conversation} />, root);
