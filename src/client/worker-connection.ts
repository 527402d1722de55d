/**
 * One worker and the calls that wait for it: a call ends with its reply, with its error, or with the worker's death.
 * Owns the worker's life; never knows what a call means.
 */
import { proxy, type Remote, wrap } from 'comlink';
import type { MemoryEvent } from '../engine/engine';
import { EngineError } from '../errors';
import { fromErrorWire, toEngineError } from '../worker/error-wire';
import type { CallId, EngineService, Reply } from '../worker/protocol';
import { DeathWatch } from './death-watch';

export class WorkerConnection {
  readonly #worker: Worker;
  readonly #service: Remote<EngineService>;
  readonly #watch: DeathWatch;
  readonly #pending = new Set<(error: EngineError) => void>();
  readonly #onEnd: (death: EngineError) => void;
  #death: EngineError | null = null;

  /** @param onEnd called once, when the worker is gone. */
  constructor(worker: Worker, unresponsiveMs: number, remedy: string, onEnd: (death: EngineError) => void) {
    this.#onEnd = onEnd;
    this.#worker = worker;
    this.#service = wrap<EngineService>(worker);
    this.#watch = new DeathWatch({
      worker,
      unresponsiveMs,
      ping: () => this.#service.ping(),
      onDeath: (what, cause) =>
        this.end(
          new EngineError('WORKER_DEAD', `The worker died: ${what}. ${remedy}`, cause === undefined ? {} : { cause }),
        ),
    });
  }

  /** Why the worker is gone, or null while it lives. */
  get death(): EngineError | null {
    return this.#death;
  }

  /**
   * Makes one call and waits for its reply.
   * @throws EngineError the engine's own; `WORKER_DEAD` as soon as the worker is; `BAD_ARGUMENT` for arguments that
   * cannot be sent to a worker.
   */
  call<T>(send: (service: Remote<EngineService>) => Promise<Reply<T>>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#death) {
        reject(this.#death);
        return;
      }
      this.#pending.add(reject);
      this.#watch.attend();
      const settle = () => {
        this.#pending.delete(reject);
        if (this.#pending.size === 0) this.#watch.rest();
      };
      send(this.#service).then(
        (reply) => {
          settle();
          if (reply.ok) resolve(reply.value);
          else reject(fromErrorWire(reply.error));
        },
        (thrown: unknown) => {
          settle();
          reject(toCallError(thrown));
        },
      );
    });
  }

  /** Has the worker report what changes on the GPU, until it ends. */
  watchMemory(listener: (event: MemoryEvent) => void): void {
    // A worker that cannot answer dies of it, which is told elsewhere.
    this.#service.watchMemory(proxy(listener)).catch(() => {});
  }

  /** Asks the worker to abort a call; its reply then says how it ended. */
  abort(callId: CallId): void {
    if (this.#death) return;
    // The call's own reply is what counts; this one only says that the request arrived.
    this.#service.abort(callId).catch(() => {});
  }

  /** Stops the worker and rejects every pending call. */
  end(death: EngineError): void {
    if (this.#death) return;
    this.#death = death;
    this.#watch.end();
    this.#worker.terminate();
    const pending = [...this.#pending];
    this.#pending.clear();
    for (const reject of pending) reject(death);
    this.#onEnd(death);
  }
}

/** What comlink itself rejects with: the arguments could not be cloned, or the worker's reply could not. */
function toCallError(thrown: unknown): EngineError {
  if (thrown instanceof DOMException && thrown.name === 'DataCloneError') {
    const message = `The arguments hold something that cannot be sent to a worker (${thrown.message}): pass plain data.`;
    return new EngineError('BAD_ARGUMENT', message, { cause: thrown });
  }
  return toEngineError(thrown);
}
