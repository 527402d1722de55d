/**
 * The worker's side of the boundary: answers an EngineService over comlink by calling an Engine.
 * Owns which calls are pending and how they are aborted; never creates an engine, never knows a client.
 */
import { type Endpoint, expose, type ProxyMethods, releaseProxy } from 'comlink';
import type { Engine } from '../engine/engine';
import { toErrorWire } from './error-wire';
import type { CallId, EngineService, RemoteCallback, Reply } from './protocol';

/** Serves `engine` on a worker's global scope or a MessagePort, until that closes. */
export function exposeEngine(engine: Engine, endpoint: Endpoint): void {
  const pending = new Map<CallId, AbortController>();

  async function abortable<T>(callId: CallId, run: (signal: AbortSignal) => Promise<T>): Promise<Reply<T>> {
    const controller = new AbortController();
    pending.set(callId, controller);
    try {
      return await replyWith(() => run(controller.signal));
    } finally {
      pending.delete(callId);
    }
  }

  const service: EngineService = {
    ping: () => {},
    abort: (callId) => pending.get(callId)?.abort(),
    load: (callId, source, options, onProgress) =>
      abortable(callId, async (signal) => {
        if (onProgress === null) return engine.load(source, options, undefined, signal);
        const progress = new CallbackStream(onProgress);
        try {
          return await engine.load(source, options, (step) => progress.send(step), signal);
        } finally {
          await progress.end();
        }
      }),
    generate: (callId, request, onEvent) =>
      abortable(callId, async (signal) => {
        const events = new CallbackStream(onEvent);
        try {
          for await (const event of engine.generate(request, signal)) {
            events.send(event);
            if (signal.aborted) break;
          }
        } finally {
          await events.end();
        }
        return null;
      }),
    getModel: () => replyWith(async () => engine.model),
    score: (callId, request) => abortable(callId, (signal) => engine.score(request, signal)),
    setExpertBudget: (budget) => replyWith(() => engine.setExpertBudget(budget)),
    watchMemory(listener) {
      // A client that cannot hear any more has gone: there is no one to tell.
      engine.watchMemory((event) => void Promise.resolve(listener(event)).catch(() => {}));
    },
    listModels: (store) => replyWith(() => engine.listModels(store)),
    removeModel: (store, modelId) => replyWith(() => engine.removeModel(store, modelId).then(() => null)),
    unload: () => replyWith(() => engine.unload().then(() => null)),
  };
  expose(service, endpoint);
}

async function replyWith<T>(run: () => Promise<T>): Promise<Reply<T>> {
  try {
    return { ok: true, value: await run() };
  } catch (thrown) {
    return { ok: false, error: toErrorWire(thrown) };
  }
}

/**
 * Sends values to one callback of the client without waiting for each, and at the end for all: a token must not cost
 * a round trip, but a reply must not overtake the values before it (they travel on another port).
 */
class CallbackStream<T> {
  readonly #callback: RemoteCallback<T>;
  #handled: Promise<unknown> = Promise.resolve();
  #ended = false;

  constructor(callback: RemoteCallback<T>) {
    this.#callback = callback;
  }

  /** Drops what comes after `end`: an aborted call may still report from work that was under way. */
  send(value: T): void {
    if (this.#ended) return;
    const before = this.#handled;
    const sent = Promise.resolve(this.#callback(value));
    this.#handled = Promise.all([before, sent]);
    // Seen in `end`; without this, a failure before that would count as unhandled.
    this.#handled.catch(() => {});
  }

  /** Waits until the client has handled every value, then closes the callback's port. */
  async end(): Promise<void> {
    this.#ended = true;
    try {
      await this.#handled;
    } finally {
      (this.#callback as RemoteCallback<T> & Partial<ProxyMethods>)[releaseProxy]?.();
    }
  }
}
