/**
 * The Engine interface over a worker: what a page calls.
 * Owns when a worker is started and how aborts, progress and token streams cross to it; never touches the GPU, a store
 * or a model.
 */
import { proxy, type Remote } from 'comlink';
import { createAbort, throwIfAborted } from '../aborts';
import { type Chat, createChat } from '../chat/chat';
import { isCopied } from '../engine/copy-choice';
import type {
  Engine,
  ExpertBudget,
  ExpertBudgetChange,
  ForecastFiles,
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
import { Listeners } from '../engine/listeners';
import { NOTHING_ON_GPU } from '../engine/memory-event';
import { EngineError } from '../errors';
import type { StoreChoice } from '../store/model-store';
import { askPersistence } from '../store/persistence';
import type { CallId, EngineService, Reply } from '../worker/protocol';
import { EventQueue } from './event-queue';
import { WorkerConnection } from './worker-connection';

/** Which worker, and when it counts as dead. */
export interface RemoteEngineOptions {
  /** A worker of your own that runs webmoe's worker entry. Default: one is started at the first call. */
  readonly worker?: Worker;
  /**
   * While calls are pending, a worker that answers no ping for this long counts as dead; Infinity: never. A worker that
   * has not answered yet (its script may still be downloading) gets four times as long. Default 30,000 ms.
   */
  readonly unresponsiveMs?: number;
}

/** An engine in a worker. */
export interface RemoteEngine extends Engine {
  /** Chat completions in the shape of OpenAI's API. */
  readonly chat: Chat;
  /** Stops the worker at once, freeing all it held. Pending and later calls reject with `WORKER_DEAD`. */
  terminate(): void;
}

const DEFAULT_UNRESPONSIVE_MS = 30_000;

/**
 * An engine in a Web Worker of its own.
 *
 * When the worker dies, every pending call and stream rejects with `WORKER_DEAD`. The next call starts a fresh worker,
 * in which no model is loaded: call `load` again (what was installed stays installed). A worker that was passed in is
 * not replaced: later calls reject with `WORKER_DEAD`.
 *
 * A relative URL in `load` is taken relative to the page.
 * @throws EngineError `BAD_ARGUMENT` when `unresponsiveMs` is not a positive number.
 */
export function createEngine(options: RemoteEngineOptions = {}): RemoteEngine {
  const unresponsiveMs = options.unresponsiveMs ?? DEFAULT_UNRESPONSIVE_MS;
  if (!(unresponsiveMs > 0)) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `unresponsiveMs must be above 0, not ${unresponsiveMs}; the default is 30000.`,
    );
  }
  return new WorkerEngine(options.worker ?? null, unresponsiveMs);
}

/** A call under way that can be aborted. */
interface PendingCall<T> {
  readonly reply: Promise<T>;
  abort(): void;
}

class WorkerEngine implements RemoteEngine {
  readonly #givenWorker: Worker | null;
  readonly #unresponsiveMs: number;
  #connection: WorkerConnection | null = null;
  #terminated = false;
  #nextCallId: CallId = 1;
  #model: LoadedModel | null = null;
  readonly #memoryListeners = new Listeners<MemoryEvent>();
  readonly chat: Chat = createChat(this);

  constructor(givenWorker: Worker | null, unresponsiveMs: number) {
    this.#givenWorker = givenWorker;
    this.#unresponsiveMs = unresponsiveMs;
  }

  get model(): LoadedModel | null {
    return this.#connection?.death ? null : this.#model;
  }

  async load(
    source: ModelSource,
    options?: LoadOptions,
    onProgress?: (progress: LoadProgress) => void,
    signal?: AbortSignal,
  ): Promise<LoadedModel> {
    const thrownByCaller: unknown[] = [];
    const resolved = resolveSource(source);
    const resolvedOptions = options?.forecast ? { ...options, forecast: resolveForecast(options.forecast) } : options;
    const report = (step: LoadProgress) => {
      if (thrownByCaller.length > 0) return;
      try {
        onProgress?.(step);
      } catch (error) {
        thrownByCaller.push(error);
        call.abort();
      }
    };
    // Here, because workers have no way to ask.
    if (isCopied(source, options ?? {}) && options?.store !== 'memory') void askPersistence();
    const call = this.#start(signal, (service, callId) =>
      service.load(callId, resolved, resolvedOptions, onProgress ? proxy(report) : null),
    );
    this.#model = null;
    const outcome = await call.reply.then(
      (model) => ({ model }),
      (error: unknown) => ({ error }),
    );
    // A refusal leaves the model before it loaded, and a load that its caller aborted may have come to its end.
    this.#model = 'model' in outcome ? outcome.model : await this.#askModel();
    if (thrownByCaller.length > 0) throw thrownByCaller[0];
    if ('error' in outcome) throw outcome.error;
    return outcome.model;
  }

  async *generate(request: GenerateRequest, signal?: AbortSignal): AsyncGenerator<GenerateEvent, void, undefined> {
    const events = new EventQueue<GenerateEvent>();
    let done = false;
    const receive = (event: GenerateEvent) => {
      if (event.type === 'done') done = true;
      events.push(event);
    };
    const call = this.#start(signal, (service, callId) => service.generate(callId, request, proxy(receive)));
    let replied = false;
    const reply = call.reply.then(
      () => events.close(!done && signal?.aborted ? createAbort(signal) : undefined),
      (error: EngineError) => events.close(error),
    );
    reply.then(() => {
      replied = true;
    });
    try {
      yield* events;
    } finally {
      // The reader left its loop early: wait until the worker has stopped, or the next generate would find it busy.
      if (!replied) {
        call.abort();
        await reply;
      }
    }
  }

  async score(request: ScoreRequest, signal?: AbortSignal): Promise<ScoreResult> {
    return this.#start(signal, (service, callId) => service.score(callId, request)).reply;
  }

  async setExpertBudget(budget: ExpertBudget): Promise<ExpertBudgetChange> {
    const change = await this.#connect().call((service) => service.setExpertBudget(budget));
    const { slotsPerLayer, plannedGpuBytes } = change;
    if (this.#model) this.#model = { ...this.#model, slotsPerLayer, plannedGpuBytes };
    return change;
  }

  watchMemory(listener: (event: MemoryEvent) => void): () => void {
    return this.#memoryListeners.add(listener);
  }

  async listModels(store: StoreChoice): Promise<InstalledModel[]> {
    return this.#connect().call((service) => service.listModels(store));
  }

  async removeModel(store: StoreChoice, modelId: string): Promise<void> {
    await this.#connect().call((service) => service.removeModel(store, modelId));
  }

  async unload(): Promise<void> {
    await this.#connect().call((service) => service.unload());
    this.#model = null;
  }

  terminate(): void {
    this.#terminated = true;
    this.#connection?.end(terminatedError());
  }

  async #askModel(): Promise<LoadedModel | null> {
    const connection = this.#connection;
    if (!connection || connection.death) return null;
    return connection.call((service) => service.getModel()).catch(() => null);
  }

  #start<T>(
    signal: AbortSignal | undefined,
    send: (service: Remote<EngineService>, callId: CallId) => Promise<Reply<T>>,
  ): PendingCall<T> {
    throwIfAborted(signal);
    const connection = this.#connect();
    const callId = this.#nextCallId++;
    const abort = () => connection.abort(callId);
    signal?.addEventListener('abort', abort, { once: true });
    const reply = connection
      .call((service) => send(service, callId))
      .finally(() => signal?.removeEventListener('abort', abort));
    return { reply, abort };
  }

  /** The living connection; starts a worker where there is none. */
  #connect(): WorkerConnection {
    if (this.#terminated) throw terminatedError();
    const current = this.#connection;
    if (current && (!current.death || this.#givenWorker)) return current;
    const remedy = this.#givenWorker
      ? 'Create a new engine with a new worker.'
      : 'Load the model again: the next call starts a new worker.';
    const worker = this.#givenWorker ?? startWorker();
    let isOnGpu = false;
    const connection = new WorkerConnection(worker, this.#unresponsiveMs, remedy, ({ message }) => {
      if (isOnGpu) this.#memoryListeners.tell({ cause: 'unload', message, ...NOTHING_ON_GPU });
    });
    connection.watchMemory((event) => {
      isOnGpu = event.cause !== 'unload';
      const { slotsPerLayer, plannedGpuBytes, device } = event;
      if (device && this.#model) this.#model = { ...this.#model, slotsPerLayer, plannedGpuBytes, ...device };
      this.#memoryListeners.tell(event);
    });
    this.#connection = connection;
    return connection;
  }
}

function startWorker(): Worker {
  try {
    // Literal, so that bundlers see it and emit the worker beside the page's code.
    return new Worker(new URL('../worker/worker.ts', import.meta.url), { type: 'module' });
  } catch (cause) {
    const message =
      'The worker could not be started. Its script must come from the same origin as the page, or pass a worker of ' +
      'your own: createEngine({ worker }).';
    throw new EngineError('WORKER_DEAD', message, { cause });
  }
}

function resolveSource(source: ModelSource): ModelSource {
  return source.kind === 'url' ? { ...source, url: resolveUrl(source.url) } : source;
}

function resolveForecast({ taughtUrl, learnedUrl }: ForecastFiles): ForecastFiles {
  return {
    ...(taughtUrl !== undefined && { taughtUrl: resolveUrl(taughtUrl) }),
    ...(learnedUrl !== undefined && { learnedUrl: resolveUrl(learnedUrl) }),
  };
}

/** Makes a URL absolute: the worker would take a relative one relative to its own script. */
function resolveUrl(url: string): string {
  const base = globalThis.document?.baseURI ?? globalThis.location?.href;
  try {
    return new URL(url, base).href;
  } catch (cause) {
    const message = `"${url}" is not a URL${base ? '' : ' (there is no page to be relative to)'}.`;
    throw new EngineError('BAD_ARGUMENT', message, { cause });
  }
}

function terminatedError(): EngineError {
  return new EngineError('WORKER_DEAD', 'The engine was terminated. Create a new one with createEngine().');
}
