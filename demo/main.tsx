/** The page's entry: one engine in a worker, one model, one conversation. */
import { render } from 'preact';
import { createEngine } from '../src/index';
import { App } from './app';
import { Conversation } from './conversation';
import { ConversationArchive } from './conversation-archive';
import { ModelSession } from './model-session';
import { getStorage, readAnswerSettings } from './preferences';

const engine = createEngine();
const session = new ModelSession(engine);
const archive = new ConversationArchive(getStorage());
const conversation = new Conversation({
  engine,
  archive,
  getSettings: readAnswerSettings,
  hasChatTemplate: () => session.value.status !== 'ready' || session.value.model.hasChatTemplate,
});
// The chat that was open when the page was left.
const [latest] = archive.list();
if (latest && isReload()) void conversation.reopen(latest);
const root = document.getElementById('app');
if (root) render(<App engine={engine} session={session} conversation={conversation} archive={archive} />, root);

/** Gone back to or reloaded, not newly visited: then the reader is in the middle of it. */
function isReload(): boolean {
  const [visit] = performance.getEntriesByType('navigation');
  return visit instanceof PerformanceNavigationTiming && visit.type !== 'navigate';
}
