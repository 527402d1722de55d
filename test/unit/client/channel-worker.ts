/** A Worker for Node: an engine served over a real MessageChannel, with a worker's events and terminate(). */
import type { Endpoint } from 'comlink';
import type { Engine } from '../../../src/engine/engine';
import { exposeEngine } from '../../../src/worker/expose';

export class ChannelWorker extends EventTarget {
  readonly #near: MessagePort;
  readonly #far: MessagePort;
  terminated = false;
  /** While true, nothing reaches the engine and nothing comes back: a blocked event loop. */
  blocked = false;

  constructor(engine: Engine) {
    super();
    const { port1, port2 } = new MessageChannel();
    this.#near = port1;
    this.#far = port2;
    port1.onmessage = (event) => this.dispatchEvent(new MessageEvent('message', { data: event.data }));
    exposeEngine(engine, port2 as unknown as Endpoint);
  }

  postMessage(message: unknown, transfer: Transferable[] = []): void {
    if (!this.terminated && !this.blocked) this.#near.postMessage(message, transfer);
  }

  terminate(): void {
    this.terminated = true;
    this.#near.close();
    this.#far.close();
  }

  /** An uncaught exception in the worker, as the page sees it. */
  fail(message: string): void {
    this.dispatchEvent(Object.assign(new Event('error'), { message, filename: 'worker.js', lineno: 7, error: null }));
  }

  asWorker(): Worker {
    return this as unknown as Worker;
  }
}
