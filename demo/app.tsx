/** The whole page: decides what is shown when, and what the buttons do. Owns no chat and no model state. */
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import type { Engine } from '../src/index';
import { Composer } from './components/composer';
import { DropZone } from './components/drop-zone';
import { Header } from './components/header';
import { KeptChats } from './components/kept-chats';
import { LoadFailure } from './components/load-failure';
import { LoadProgress } from './components/load-progress';
import { MessageList } from './components/message-list';
import { ResidencyPanel } from './components/residency-panel';
import { SettingsDialog } from './components/settings-dialog';
import { Welcome } from './components/welcome';
import type { Conversation } from './conversation';
import type { ConversationArchive } from './conversation-archive';
import type { ModelChoice, ModelSession } from './model-session';
import { useObservable } from './observable';
import {
  type AnswerSettings,
  readAnswerSettings,
  readExpertPercent,
  writeAnswerSettings,
  writeExpertPercent,
} from './preferences';

interface AppProps {
  readonly engine: Engine;
  readonly session: ModelSession;
  readonly conversation: Conversation;
  readonly archive: ConversationArchive;
}

export function App({ engine, session, conversation, archive }: AppProps) {
  const model = useObservable(session);
  const { turns, answering, residency } = useObservable(conversation);
  const [expertPercent, setExpertPercent] = useState(readExpertPercent);
  const [settings, setSettings] = useState(readAnswerSettings);
  const [, setArchiveChanges] = useState(0);
  const [settingsOpen, setSettingsOpen] = useState(false);
  const [draft, setDraft] = useState('');
  const input = useRef<HTMLTextAreaElement>(null);
  const ready = model.status === 'ready';

  const load = useCallback(
    async (choice: ModelChoice, percent: number) => {
      await conversation.stop();
      await session.load(choice, percent);
    },
    [conversation, session],
  );
  useEffect(() => {
    void load({ kind: 'embedded' }, expertPercent);
  }, [load]);

  // Other tabs share the archive.
  useEffect(() => {
    const update = () => setArchiveChanges((count) => count + 1);
    addEventListener('storage', update);
    return () => removeEventListener('storage', update);
  }, []);

  const loadOther = async (choice: ModelChoice, percent = expertPercent) => {
    setSettingsOpen(false);
    // Shown and not kept: what a model needs is no choice of the reader's.
    setExpertPercent(percent);
    await conversation.clear();
    await load(choice, percent);
  };
  const changeSettings = (changed: AnswerSettings) => {
    setSettings(changed);
    writeAnswerSettings(changed);
  };
  const changeBudget = async (percent: number) => {
    setExpertPercent(percent);
    if (ready) await session.changeBudget(percent);
    else await load(model.choice, percent);
    // A later choice, or no model: what is not granted is not kept for the next visit.
    if (session.value.status !== 'ready' || session.value.budgetChange?.status === 'pending') return;
    setExpertPercent(session.value.expertPercent);
    writeExpertPercent(session.value.expertPercent);
  };
  const reloadAndRetry = async () => {
    await load(model.choice, expertPercent);
    if (session.value.status === 'ready') await conversation.retry();
  };
  const ask = (text: string) => {
    void conversation.ask(text);
    input.current?.focus();
  };
  const sendDraft = (text: string) => {
    setDraft('');
    ask(text);
  };
  const startNewChat = async (firstQuestion?: string) => {
    await conversation.clear();
    if (firstQuestion === undefined) input.current?.focus();
    else ask(firstQuestion);
  };
  const stop = () => {
    void conversation.stop();
    input.current?.focus();
  };

  return (
    <DropZone onFile={(file) => void loadOther({ kind: 'file', file })}>
      <Header
        model={model}
        canClear={turns.length > 0}
        onNewChat={() => void startNewChat()}
        onSettings={() => setSettingsOpen(true)}
      />
      <main>
        {turns.length > 0 && (
          <MessageList
            turns={turns}
            model={ready ? model.model : null}
            onRetry={() => void conversation.retry()}
            onReloadAndRetry={() => void reloadAndRetry()}
            onNewChat={(question) => void startNewChat(question)}
          />
        )}
        {ready && residency && turns.length > 0 && (
          <ResidencyPanel
            pages={residency}
            model={model}
            expertPercent={expertPercent}
            onBudget={(percent) => void changeBudget(percent)}
          />
        )}
        {model.status === 'loading' && <LoadProgress choice={model.choice} steps={model.steps} />}
        {model.status === 'failed' && (
          <LoadFailure
            model={model}
            expertPercent={expertPercent}
            onBudget={(percent) => void changeBudget(percent)}
            onRetry={() => void load(model.choice, expertPercent)}
            onEmbedded={() => void load({ kind: 'embedded' }, expertPercent)}
          />
        )}
        {ready && turns.length === 0 && (
          <Welcome model={model} onAsk={ask} onSettings={() => setSettingsOpen(true)}>
            <KeptChats
              chats={archive.list()}
              onOpen={(chat) => void conversation.reopen(chat)}
              onRemove={({ id }) => {
                archive.remove(id);
                setArchiveChanges((count) => count + 1);
              }}
            />
          </Welcome>
        )}
      </main>
      <Composer
        input={input}
        draft={draft}
        ready={ready}
        answering={answering}
        onDraft={setDraft}
        onSend={sendDraft}
        onStop={stop}
      />
      <SettingsDialog
        open={settingsOpen}
        engine={engine}
        model={model}
        expertPercent={expertPercent}
        onClose={() => setSettingsOpen(false)}
        onBudget={(percent) => void changeBudget(percent)}
        onLoad={(choice, percent) => void loadOther(choice, percent)}
        settings={settings}
        onSettings={changeSettings}
      />
    </DropZone>
  );
}
