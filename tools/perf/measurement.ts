/**
 * What every table is measured with: the bench, how often, and rounds that interleave its rows.
 * Owns the order of runs; knows no table.
 */
import type { StoreKind } from '../../src/store/model-store.ts';
import type { GetPeer, PeerSetUp } from './peers/peer-protocol.ts';
import type { Bench, BenchModel } from './protocol.ts';
import type { RandomShape } from './random-shapes.ts';
import { type Metrics, type ResultRow, summarise, type TableName } from './results.ts';

export interface Measurement {
  readonly bench: Bench;
  readonly model: BenchModel;
  /** What a user has: IndexedDB in browsers, memory in Node. */
  readonly store: StoreKind;
  readonly runs: number;
  /** Generated per prompt. */
  readonly tokens: number;
  /** What is asked, each with the seed that it is answered with. */
  readonly prompts: readonly { readonly text: string; readonly seed: number }[];
  /** Models of random weights, cut to this machine. */
  readonly shapes: readonly RandomShape[];
  /** Other runtimes in the same page; null where there is none. */
  readonly peers: { readonly setUp: PeerSetUp; readonly get: GetPeer } | null;
  /** For people, on stderr. */
  readonly report: (message: string) => void;
}

export type Table = (measurement: Measurement) => Promise<ResultRow[]>;

/** What one round gave, by row. */
export type Round = ReadonlyMap<string, Metrics>;

/**
 * Measures every row once per round, each round beginning with another row: a machine that grows slower favours none.
 * `finish` adds what compares rows of one round.
 */
export async function measureRounds<R extends { readonly row: string }>(
  table: TableName,
  { runs, report }: Pick<Measurement, 'runs' | 'report'>,
  rows: readonly R[],
  measureRow: (row: R) => Promise<Metrics>,
  finish: (round: Round) => Round | Promise<Round> = (round) => round,
): Promise<ResultRow[]> {
  const rounds: Round[] = [];
  for (let run = 0; run < runs; run++) {
    const round = new Map<string, Metrics>();
    for (const offset of rows.keys()) {
      const row = rows[(run + offset) % rows.length] as R;
      report(`${table}, run ${run + 1} of ${runs}: ${row.row}`);
      round.set(row.row, await measureRow(row));
    }
    rounds.push(await finish(round));
  }
  // In the order of the rows; what `finish` added comes last.
  const names = [...new Set([...rows.map(({ row }) => row), ...rounds.flatMap((round) => [...round.keys()])])];
  return names.flatMap((row) =>
    summarise(
      table,
      row,
      rounds.map((round) => round.get(row) ?? {}),
    ),
  );
}
