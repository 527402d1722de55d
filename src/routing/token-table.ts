/**
 * Predictor: the experts that tokens of this id used before, or tokens behind this id. One row of counts per token id, the
 * least recently seen rows going first when the memory is full; token ids without a row, and rows that saw little, lean on
 * the average token.
 */
import { EngineError } from '../errors';
import { corruptState, createState, openState, type Predictor, type TokenContext } from './predictor';
import type { RoutingShape } from './token-routes';

/** Bytes of rows; a row has layers x experts bytes. 32 MiB are 20,000 token ids of 26 layers x 64 experts. */
const defaultBudgetBytes = 32 << 20;
/** A row's counts are halved when its sightings would pass this: the newer half of the evidence stays. */
const maxSightings = 255;
/** The average token weighs as much as this many sightings of the token itself (docs/log.md, "a calibrated ensemble"). */
const priorSightings = 4;
/** Tokens until a use counts half in the average token's rates. */
const averageHalfWeightTokens = 4096;

interface Row {
  /** [layers, experts]: tokens of this id that used the page. */
  readonly counts: Uint8Array;
  /** Tokens of this id that were seen. */
  sightings: number;
}

/** @param rowsBy which token's id names a row: the token that runs, or the one before it. */
export function createTokenTable(
  shape: RoutingShape,
  budgetBytes = defaultBudgetBytes,
  rowsBy: 'token' | 'previous' = 'token',
): Predictor {
  const { layers, experts } = shape;
  const pages = layers * experts;
  const maxRows = Math.floor(budgetBytes / pages);
  if (maxRows < 1) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `a token table of ${budgetBytes} bytes has no room for a row of ${layers} layers x ${experts} experts; ` +
        `give at least ${pages} bytes`,
    );
  }
  /** By token id, the least recently seen first: a Map keeps the order of insertion. */
  let rows = new Map<number, Row>();
  /** [layers, experts] f32: decayed uses per token, of any id, as if the time before the first token had no uses. */
  let average = new Float32Array(pages);
  const averageKeep = 2 ** (-1 / averageHalfWeightTokens);
  let tokens = 0;

  /** Id that names the token's row; null for the first token when rows are named by the one before. */
  const getRowId = ({ tokenId, previousId }: TokenContext): number | null =>
    rowsBy === 'token' ? tokenId : previousId;

  /** The row of a token id, which is now the most recently seen. */
  const ensureRow = (tokenId: number): Row => {
    let row = rows.get(tokenId);
    if (row) {
      rows.delete(tokenId);
    } else if (rows.size < maxRows) {
      row = { counts: new Uint8Array(pages), sightings: 0 };
    } else {
      const [oldest, evicted] = rows.entries().next().value as [number, Row];
      rows.delete(oldest);
      row = { counts: evicted.counts.fill(0), sightings: 0 };
    }
    rows.set(tokenId, row);
    return row;
  };

  return {
    name: rowsBy,
    predict(context, scores) {
      const rowId = getRowId(context);
      const row = rowId === null ? undefined : rows.get(rowId);
      const weight = 1 / ((row?.sightings ?? 0) + priorSightings);
      const averageScale = tokens > 0 ? (priorSightings * weight) / (1 - averageKeep ** tokens) : 0;
      for (let page = 0; page < pages; page++) scores[page] = (average[page] as number) * averageScale;
      if (!row) return tokens > 0;
      const { counts } = row;
      for (let page = 0; page < pages; page++) {
        const count = counts[page] as number;
        if (count > 0) scores[page] = (scores[page] as number) + count * weight;
      }
      return true;
    },
    predictBehind: () => 0,
    observe(context, routes) {
      tokens++;
      const rowId = getRowId(context);
      const row = rowId === null ? null : ensureRow(rowId);
      if (row?.sightings === maxSightings) {
        row.sightings >>= 1;
        for (let page = 0; page < pages; page++) row.counts[page] = (row.counts[page] as number) >> 1;
      }
      if (row) row.sightings++;
      for (let page = 0; page < pages; page++) average[page] = (average[page] as number) * averageKeep;
      for (let layer = 0; layer < layers; layer++) {
        const end = routes.getStart(layer + 1);
        for (let at = routes.getStart(layer); at < end; at++) {
          const page = layer * experts + (routes.ids[at] as number);
          if (row) row.counts[page] = (row.counts[page] as number) + 1;
          average[page] = (average[page] as number) + 1 - averageKeep;
        }
      }
    },
    save() {
      const counts = new Uint8Array(rows.size * pages);
      const kept = [...rows.values()];
      for (const [index, row] of kept.entries()) counts.set(row.counts, index * pages);
      return createState(rowsBy, shape, {
        tokenIds: Uint32Array.from(rows.keys()),
        sightings: Uint8Array.from(kept, (row) => row.sightings),
        counts,
        average: average.slice(),
        tokens: Uint32Array.of(tokens),
      });
    },
    restore(state) {
      const arrays = openState(state, rowsBy, shape);
      const tokenIds = arrays.get('tokenIds', Uint32Array);
      const sightings = arrays.get('sightings', Uint8Array, tokenIds.length);
      const counts = arrays.get('counts', Uint8Array, tokenIds.length * pages);
      const restoredAverage = arrays.get('average', Float32Array, pages).slice();
      const restoredTokens = arrays.get('tokens', Uint32Array, 1)[0] as number;
      // A smaller budget than the one it was saved under keeps the most recently seen.
      const skipped = Math.max(0, tokenIds.length - maxRows);
      const restored = new Map<number, Row>();
      for (let index = skipped; index < tokenIds.length; index++) {
        restored.set(tokenIds[index] as number, {
          counts: counts.slice(index * pages, (index + 1) * pages),
          sightings: sightings[index] as number,
        });
      }
      if (restored.size !== tokenIds.length - skipped) throw corruptState(rowsBy, 'names a token id twice');
      rows = restored;
      average = restoredAverage;
      tokens = restoredTokens;
    },
  };
}
