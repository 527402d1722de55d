/**
 * How fast bytes arrive, and how long the rest will take. Pure: is told the time, never looks at a clock.
 */

/** Older arrivals weigh half as much per so many milliseconds. */
const HALF_LIFE_MS = 4000;
/** Before this much time there is no rate to speak of. */
const MIN_OBSERVED_MS = 250;

export class TransferRate {
  #bytes = 0;
  #weightMs = 0;
  #lastMs: number;

  constructor(private readonly startMs: number) {
    this.#lastMs = startMs;
  }

  add(bytes: number, nowMs: number): void {
    this.#decay(nowMs);
    this.#bytes += bytes;
  }

  /** Null while nothing is known. */
  getBytesPerSecond(nowMs: number): number | null {
    this.#decay(nowMs);
    if (nowMs - this.startMs < MIN_OBSERVED_MS || this.#bytes === 0) return null;
    return (this.#bytes / this.#weightMs) * 1000;
  }

  #decay(nowMs: number): void {
    const elapsedMs = Math.max(0, nowMs - this.#lastMs);
    const kept = 0.5 ** (elapsedMs / HALF_LIFE_MS);
    this.#bytes *= kept;
    // The integral of the weights: what a constant rate is divided by to come out as itself.
    this.#weightMs = this.#weightMs * kept + (HALF_LIFE_MS / Math.LN2) * (1 - kept);
    this.#lastMs = nowMs;
  }
}
