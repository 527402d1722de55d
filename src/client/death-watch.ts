/**
 * Notices that a worker died, which comlink does not: by its `error` and `messageerror` events, and by its silence.
 * Owns the heartbeat; never terminates the worker and never rejects a call itself.
 *
 * A long shader compile or upload is not silence: the engine is asynchronous, so the worker's event loop answers pings
 * meanwhile. Missed beats are counted rather than milliseconds, because a suspended laptop or a throttled background
 * tab delays the page's timers and the worker's answers alike.
 */

/** Beats in `unresponsiveMs`. */
const BEATS = 6;
/** Before its first answer a worker may still be downloading its script: it gets this many times longer. */
const START_FACTOR = 4;

export interface DeathWatchOptions {
  readonly worker: Worker;
  /** Resolves when the worker's event loop has answered. */
  readonly ping: () => Promise<unknown>;
  /** Silence that counts as death, in milliseconds; Infinity: never. */
  readonly unresponsiveMs: number;
  /** Called once, with what happened and the error that says so, if there is one. */
  readonly onDeath: (what: string, cause?: unknown) => void;
}

export class DeathWatch {
  readonly #options: DeathWatchOptions;
  readonly #events = new AbortController();
  #timer: ReturnType<typeof setInterval> | null = null;
  #pingPending = false;
  #everAnswered = false;
  #missedBeats = 0;

  constructor(options: DeathWatchOptions) {
    this.#options = options;
    const { worker } = options;
    const { signal } = this.#events;
    worker.addEventListener('error', (event) => this.#report(describeErrorEvent(event), event.error), { signal });
    worker.addEventListener('messageerror', () => this.#report('it sent a message that cannot be read'), { signal });
  }

  /** Starts the heartbeat: called when there is something to wait for. */
  attend(): void {
    if (this.#timer !== null || this.#events.signal.aborted || this.#options.unresponsiveMs === Infinity) return;
    this.#missedBeats = 0;
    this.#timer = setInterval(() => this.#beat(), this.#options.unresponsiveMs / BEATS);
  }

  /** Stops the heartbeat; events are still watched. */
  rest(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  /** Ends the watch. */
  end(): void {
    this.rest();
    this.#events.abort();
  }

  #beat(): void {
    if (this.#pingPending) {
      this.#missedBeats += 1;
      const allowedBeats = this.#everAnswered ? BEATS : BEATS * START_FACTOR;
      if (this.#missedBeats >= allowedBeats) {
        const silentMs = Math.round((this.#options.unresponsiveMs / BEATS) * this.#missedBeats);
        this.#report(`it has not answered for ${silentMs} ms`);
      }
      return;
    }
    this.#missedBeats = 0;
    this.#pingPending = true;
    const answered = () => {
      this.#pingPending = false;
      this.#everAnswered = true;
    };
    // A refusal is an answer too.
    this.#options.ping().then(answered, answered);
  }

  #report(what: string, cause?: unknown): void {
    if (this.#events.signal.aborted) return;
    this.end();
    this.#options.onDeath(what, cause);
  }
}

function describeErrorEvent(event: ErrorEvent): string {
  // A script that cannot be fetched or parsed gives a bare Event: no message, no line.
  if (!event.message) return 'its script could not be loaded';
  const place = event.filename ? ` (${event.filename}:${event.lineno})` : '';
  return `${event.message}${place}`;
}
