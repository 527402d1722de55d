/** What the engine does while no call runs, to spare the next ones time. Owns when; a call never waits for more than one step of it. */

/** Without a call for so long, the work begins. */
const IDLE_MS = 500;

export class IdleWork {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #aborting = new AbortController();
  #running: Promise<void> = Promise.resolve();

  /** @param work is aborted when a call comes, and has to end soon after. What it throws is left to who needs its result. */
  constructor(private readonly work: (signal: AbortSignal) => Promise<void>) {}

  start(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#aborting = new AbortController();
      this.#running = this.work(this.#aborting.signal).catch(() => {});
    }, IDLE_MS);
  }

  /** Resolves when nothing of it uses the GPU any more. */
  stop(): Promise<void> {
    clearTimeout(this.#timer);
    this.#aborting.abort();
    return this.#running;
  }
}
