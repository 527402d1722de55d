/** The page's entry: one engine in a worker, one model, one conversation. */
import { render } from 'preact';
import { createEngine } from '../src/index';
import { App } from './app';
import { Conversation } from './conversation';
import { ConversationArchive } from './conversation-archive';
import { ModelSession } from './model-session';
import { followOpenChat } from './open-chat';
import { getStorage, getTabStorage, readAnswerSettings } from './preferences';

const engine = createEngine();
const session = new ModelSession(engine);
const archive = new ConversationArchive(getStorage());
const conversation = new Conversation({
  engine,
  archive,
  getSettings: readAnswerSettings,
  hasChatTemplate: () => session.value.status !== 'ready' || session.value.model.hasChatTemplate,
});
followOpenChat(conversation, archive, getTabStorage());
const root = document.getElementById('app');
if (root) render(<App engine={engine} session={session} conversation={conversation} archive={archive} />, root);
