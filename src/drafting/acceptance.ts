/**
 * Which drafted tokens the exact pass confirms. Pure: a guess holds when it is the very token that was sampled before it.
 */

/**
 * Rows of a pass that belong to the text: the first, and every further one whose token was sampled by the row before.
 * @param fedIds tokens of the pass: one that is known, then guesses.
 * @param sampledIds the token that follows each row.
 * @param endIds tokens behind which nothing is fed: a row behind one is no part of the text, right as its guess may be.
 */
export function countAcceptedRows(
  fedIds: ArrayLike<number>,
  sampledIds: ArrayLike<number>,
  endIds: ReadonlySet<number>,
): number {
  let rows = 1;
  while (rows < fedIds.length && fedIds[rows] === sampledIds[rows - 1] && !endIds.has(fedIds[rows] as number)) rows++;
  return rows;
}
