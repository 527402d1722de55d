/**
 * When a page is worth bringing in ahead of its use: what it spares if it is used, against what it costs if it is not.
 * Pure: times in, probabilities out.
 */

export interface PrefetchCosts {
  /** What a fault costs beside its bytes: one more submission and its read-back. */
  readonly faultMs: number;
  /** From host RAM to the GPU. */
  readonly uploadMs: number;
}

/**
 * What the page that has to go would have been worth, as a probability of use. From replays of the default model with half
 * of the experts resident: 0.12 captured 0.77 of the gap to perfect prefetch at 1.9 times the uploads of plain demand, 0.16
 * 0.67 at 1.5 times (docs/log.md, "a calibrated ensemble").
 */
const displacedProbability = 0.13;

/** From this probability on, a page in host RAM is uploaded: P (fault) > (1 - P) (upload) + what is displaced. */
export function getUploadProbability({ faultMs, uploadMs }: PrefetchCosts): number {
  return divide(uploadMs + displacedProbability * faultMs, uploadMs + faultMs);
}

/** The same for a page that is to be read into host RAM first, where a fault has to wait for the read too. */
export function getReadProbability({ faultMs, uploadMs }: PrefetchCosts, readMs: number): number {
  return divide(uploadMs + readMs + displacedProbability * faultMs, uploadMs + 2 * readMs + faultMs);
}

/** The same where what goes on waits for the read: a page that is used has to be read either way. */
export function getWaitProbability({ faultMs, uploadMs }: PrefetchCosts, readMs: number): number {
  return divide(uploadMs + readMs + displacedProbability * faultMs, uploadMs + readMs + faultMs);
}

/** Nothing measured: what is displaced decides alone. */
function divide(cost: number, whole: number): number {
  return whole > 0 ? Math.max(displacedProbability, cost / whole) : displacedProbability;
}
