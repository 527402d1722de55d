/**
 * What crosses the worker boundary: plain, structured-cloneable types, carried by comlink.
 * Owns types only; never a class instance, an AbortSignal or an Error, which cloning drops or strips.
 */
import type {
  ExpertBudget,
  ExpertBudgetChange,
  GenerateEvent,
  GenerateRequest,
  InstalledModel,
  LoadedModel,
  LoadOptions,
  LoadProgress,
  MemoryEvent,
  ModelSource,
  ScoreRequest,
  ScoreResult,
} from '../engine/engine';
import type { ErrorCode } from '../errors';
import type { StoreChoice } from '../store/model-store';

/** Names a call, so that `abort` can reach it. Unique per connection; chosen by the client. */
export type CallId = number;

/** What an EngineError was caused by: another one, a foreign error, or a thrown value that is no error. */
export type CauseWire =
  | ({ readonly kind: 'engine' } & ErrorWire)
  | {
      readonly kind: 'error';
      readonly name: string;
      readonly message: string;
      readonly stack: string | null;
      readonly cause: CauseWire | null;
    }
  | { readonly kind: 'value'; readonly text: string };

/** An EngineError as plain data. */
export interface ErrorWire {
  readonly code: ErrorCode;
  readonly message: string;
  readonly stack: string | null;
  readonly cause: CauseWire | null;
}

/** How every call ends. comlink's own rejections lose `code` and `cause`: an engine's error travels as a value. */
export type Reply<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: ErrorWire };

/** A callback of the client; its promise resolves when the client has handled the value. */
export type RemoteCallback<T> = (value: T) => void | Promise<void>;

/** What the worker exposes. Replies come after every callback of the same call was handled. */
export interface EngineService {
  /** Answers from the worker's event loop: what the death watch listens for. */
  ping(): void;
  /** Aborts a pending call; does nothing for one that has ended. */
  abort(callId: CallId): void;
  load(
    callId: CallId,
    source: ModelSource,
    options: LoadOptions | undefined,
    onProgress: RemoteCallback<LoadProgress> | null,
  ): Promise<Reply<LoadedModel>>;
  /** Replies when the stream has ended; the events go to `onEvent`, in order. */
  generate(callId: CallId, request: GenerateRequest, onEvent: RemoteCallback<GenerateEvent>): Promise<Reply<null>>;
  /** What the engine has loaded: a load that failed may have left the model before it in place. */
  getModel(): Promise<Reply<LoadedModel | null>>;
  score(callId: CallId, request: ScoreRequest): Promise<Reply<ScoreResult>>;
  setExpertBudget(budget: ExpertBudget): Promise<Reply<ExpertBudgetChange>>;
  /** For as long as the worker lives. */
  watchMemory(listener: RemoteCallback<MemoryEvent>): void;
  listModels(store: StoreChoice): Promise<Reply<InstalledModel[]>>;
  removeModel(store: StoreChoice, modelId: string): Promise<Reply<null>>;
  unload(): Promise<Reply<null>>;
}
