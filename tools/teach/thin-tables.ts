/**
 * Makes what an ensemble learnt small enough to come with a model: token ids that were hardly seen go, and counts of the
 * others are scaled down to few sightings. Pure. A table still says nearly the same, and what a user writes moves it sooner.
 */
import type { PredictorState } from '../../src/routing/predictor.ts';

/** A row seen less often says little beyond the average. */
const leastSightings = 3;
/** Rows that were seen more often are scaled down to this. */
const mostSightings = 24;

/** The state with its tables (members with rows by token id) thinned. */
export function thinTables(state: PredictorState): PredictorState {
  const members = Object.entries(state.members ?? {}).map(
    ([name, member]) => [name, 'tokenIds' in member.arrays ? thinTable(member) : member] as const,
  );
  return { ...state, members: Object.fromEntries(members) };
}

function thinTable(table: PredictorState): PredictorState {
  const { tokenIds, sightings, counts } = table.arrays as {
    readonly tokenIds: Uint32Array;
    readonly sightings: Uint8Array;
    readonly counts: Uint8Array;
  };
  const pages = table.layers * table.experts;
  const kept = [...sightings.keys()].filter((row) => (sightings[row] as number) >= leastSightings);
  const scales = kept.map((row) => Math.min(1, mostSightings / (sightings[row] as number)));
  const thinned = new Uint8Array(kept.length * pages);
  for (const [index, row] of kept.entries()) {
    for (let page = 0; page < pages; page++) {
      thinned[index * pages + page] = Math.round((counts[row * pages + page] as number) * (scales[index] as number));
    }
  }
  return {
    ...table,
    arrays: {
      ...table.arrays,
      tokenIds: Uint32Array.from(kept, (row) => tokenIds[row] as number),
      sightings: Uint8Array.from(kept, (row, index) =>
        Math.round((sightings[row] as number) * (scales[index] as number)),
      ),
      counts: thinned,
    },
  };
}
