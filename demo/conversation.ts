/**
 * The turns of one chat and the answer that is being written.
 * Owns which turns exist and what is sent to the engine; never renders. Changes at most once per animation frame while
 * an answer streams.
 */
import type { ChatMessage, Engine, EngineError, GenerateEvent, GenerateRequest, GenerateResult } from '../src/index';
import type { ConversationArchive, KeptChat } from './conversation-archive';
import { Observable } from './observable';
import { type AnswerSettings, DEFAULT_ANSWER_SETTINGS } from './preferences';
import { asEngineError } from './thrown';

export interface Question {
  readonly role: 'user';
  readonly id: number;
  readonly text: string;
}

/** Measured while the answer streams; the engine's own totals come with the result. */
export interface LiveStats {
  readonly tokens: number;
  /** Null until there are two tokens to measure between. */
  readonly tokensPerSecond: number | null;
  /** Share of the experts' pages on the GPU, 0 to 1. */
  readonly residentShare: number;
  /** Share of the needed pages that were there, 0 to 1. */
  readonly hitRate: number;
}

export interface Answer {
  readonly role: 'assistant';
  readonly id: number;
  readonly text: string;
  readonly phase: 'reading' | 'writing' | 'done' | 'stopped' | 'failed';
  /** Prompt tokens computed so far. */
  readonly prefill: { readonly done: number; readonly total: number } | null;
  readonly live: LiveStats | null;
  /** What the engine wants the reader to know; the tokens are the same. */
  readonly warnings: readonly string[];
  readonly result: GenerateResult | null;
  readonly error: EngineError | null;
}

const EMPTY_ANSWER: Omit<Answer, 'id'> = {
  role: 'assistant',
  text: '',
  phase: 'reading',
  prefill: null,
  live: null,
  warnings: [],
  result: null,
  error: null,
};

export interface ConversationState {
  /** What the archive has it under; another one where another chat begins. */
  readonly chatId: string;
  /** Question and answer in turn. */
  readonly turns: ReadonlyArray<Question | Answer>;
  readonly answering: boolean;
  /** Where the experts are: [moeLayers, experts]; 0 absent, 1 resident, 2 resident and used by the latest token. Null: nowhere. */
  readonly residency: Uint8Array | null;
}

export interface ConversationOptions {
  readonly engine: Engine;
  /** Whether the model's file has a chat template; without one it only continues the last question's text. */
  readonly hasChatTemplate: () => boolean;
  /** How the next answer is made. */
  readonly getSettings?: () => AnswerSettings;
  /** Where chats are kept; without one they end with the page. */
  readonly archive?: ConversationArchive | null;
  /** Calls back before the next repaint. */
  readonly onNextFrame?: (callback: () => void) => void;
}

export class Conversation extends Observable<ConversationState> {
  readonly #options: Required<ConversationOptions>;
  #nextId = 1;
  #residency: Uint8Array | null = null;
  /** The open chat as this tab last saw it in the archive; null: not there. */
  #keptTurns: string | null = null;
  #current: { readonly controller: AbortController; readonly ended: Promise<void> } | null = null;

  constructor(options: ConversationOptions) {
    super({ chatId: crypto.randomUUID(), turns: [], answering: false, residency: null });
    this.#options = {
      onNextFrame: (callback) => requestAnimationFrame(callback),
      getSettings: () => DEFAULT_ANSWER_SETTINGS,
      archive: null,
      ...options,
    };
    // Loads, budgets and lost devices change the map between tokens.
    options.engine.watchMemory(({ residency }) => {
      this.#residency = residency;
      this.#show({});
    });
  }

  #show(state: Partial<Omit<ConversationState, 'residency'>>): void {
    this.set({ ...this.value, ...state, residency: this.#residency });
  }

  /** Asks; does nothing while an answer is being written. Resolves when the answer has ended, however it did. */
  ask(text: string): Promise<void> {
    const question: Question = { role: 'user', id: this.#nextId++, text };
    return this.#answer([...this.value.turns, question]);
  }

  /** Asks the last question again, in place of its answer. */
  retry(): Promise<void> {
    const { turns } = this.value;
    return this.#answer(turns.at(-1)?.role === 'assistant' ? turns.slice(0, -1) : turns);
  }

  /** Stops the answer, keeping what is written; resolves when the engine has stopped. */
  async stop(): Promise<void> {
    this.#current?.controller.abort();
    await this.#current?.ended;
  }

  /** Stops, and begins another chat; the one before stays in the archive. */
  async clear(): Promise<void> {
    await this.stop();
    this.#keptTurns = null;
    this.#show({ chatId: crypto.randomUUID(), turns: [], answering: false });
  }

  /** Stops, and goes on with a chat of the archive. */
  async reopen({ id, turns }: KeptChat): Promise<void> {
    await this.stop();
    this.#keptTurns = JSON.stringify(turns);
    const restored = turns.map(({ role, text }): Question | Answer =>
      role === 'user'
        ? { role, id: this.#nextId++, text }
        : { ...EMPTY_ANSWER, id: this.#nextId++, text, phase: 'done' },
    );
    // The page was left while it was being answered.
    if (restored.at(-1)?.role === 'user') restored.push({ ...EMPTY_ANSWER, id: this.#nextId++, phase: 'stopped' });
    this.#show({ chatId: id, turns: restored, answering: false });
  }

  #keep(): void {
    const turns = this.value.turns.filter(({ text }) => text !== '').map(({ role, text }) => ({ role, text }));
    const kept = this.#readKept();
    // Another tab has gone on with the same chat: from here on they are two, and neither overwrites the other.
    if (kept !== null && kept !== this.#keptTurns) this.#show({ chatId: crypto.randomUUID() });
    this.#options.archive?.keep({ id: this.value.chatId, turns });
    this.#keptTurns = this.#readKept();
  }

  #readKept(): string | null {
    const chat = this.#options.archive?.find(this.value.chatId);
    return chat ? JSON.stringify(chat.turns) : null;
  }

  #answer(asked: ReadonlyArray<Question | Answer>): Promise<void> {
    if (this.#current || asked.at(-1)?.role !== 'user') return Promise.resolve();
    const controller = new AbortController();
    const ended = this.#stream(asked, controller.signal).finally(() => {
      this.#current = null;
    });
    this.#current = { controller, ended };
    return ended;
  }

  async #stream(asked: ReadonlyArray<Question | Answer>, signal: AbortSignal): Promise<void> {
    let answer: Answer = { ...EMPTY_ANSWER, id: this.#nextId++ };
    let ended = false;
    let frameAsked = false;
    const show = () => {
      frameAsked = false;
      this.#show({ turns: [...asked, answer], answering: !ended });
    };
    const showSoon = () => {
      if (frameAsked) return;
      frameAsked = true;
      this.#options.onNextFrame(() => {
        if (!ended) show();
      });
    };
    show();
    this.#keep();
    const clock = new TokenClock();
    try {
      for await (const event of this.#options.engine.generate(this.#getRequest(asked), signal)) {
        if (event.type === 'residency') this.#residency = event.pages;
        else answer = advance(answer, event, clock);
        showSoon();
      }
      answer = { ...answer, phase: 'done' };
    } catch (thrown) {
      const error = asEngineError(thrown);
      answer = error.code === 'ABORTED' ? { ...answer, phase: 'stopped' } : { ...answer, phase: 'failed', error };
    }
    ended = true;
    show();
    this.#keep();
  }

  #getRequest(asked: ReadonlyArray<Question | Answer>): GenerateRequest {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
    const { systemPrompt, temperature, topP, maxTokens } = this.#options.getSettings();
    const settings = { maxTokens, sampling: { temperature, topP, seed }, residency: true };
    const system: ChatMessage[] = systemPrompt.trim() === '' ? [] : [{ role: 'system', content: systemPrompt }];
    if (this.#options.hasChatTemplate()) return { messages: [...system, ...getMessages(asked)], ...settings };
    return { prompt: asked.at(-1)?.text ?? '', ...settings };
  }
}

/** The turns as the model gets them: a question that was left without an answer is left out with it. */
export function getMessages(turns: ReadonlyArray<Question | Answer>): ChatMessage[] {
  return turns.flatMap((turn, index) => {
    const answer = turn.role === 'user' ? turns[index + 1] : turn;
    if (answer && answer.text === '') return [];
    return [{ role: turn.role, content: turn.text }];
  });
}

function advance(answer: Answer, event: Exclude<GenerateEvent, { type: 'residency' }>, clock: TokenClock): Answer {
  switch (event.type) {
    case 'routes':
    case 'install':
      return answer;
    case 'warning':
      return { ...answer, warnings: [...answer.warnings, event.message] };
    case 'prefill':
      return { ...answer, prefill: { done: event.done, total: event.total } };
    case 'token': {
      const { residentShare, hitRate } = event;
      const live = { ...clock.count(), residentShare, hitRate };
      return { ...answer, text: answer.text + event.text, phase: 'writing', live };
    }
    case 'done':
      return { ...answer, text: event.result.text, result: event.result };
  }
}

/** Tokens per second between the first token and the latest. */
class TokenClock {
  #tokens = 0;
  #firstMs = 0;

  count(): Pick<LiveStats, 'tokens' | 'tokensPerSecond'> {
    const nowMs = performance.now();
    this.#tokens += 1;
    if (this.#tokens === 1) this.#firstMs = nowMs;
    const elapsedMs = nowMs - this.#firstMs;
    return {
      tokens: this.#tokens,
      tokensPerSecond: elapsedMs > 0 ? ((this.#tokens - 1) / elapsedMs) * 1000 : null,
    };
  }
}
