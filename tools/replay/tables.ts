/**
 * Rows of a replay as text for a terminal. Pure.
 */
import type { LocalRouting, ReplayRow } from '../../src/routing/replay/rows.ts';

/** @param models rows by model */
export function formatTables(models: readonly (readonly ReplayRow[])[]): string {
  return models.map(formatModel).join('\n');
}

function formatModel(rows: readonly ReplayRow[]): string {
  const [first] = rows;
  const local = rows.flatMap(({ localRouting }) => localRouting ?? []);
  const recall = rows.filter(({ predictor }) => predictor !== 'none');
  return [
    `${first?.model}: ${first?.tokens} tokens\n`,
    formatTable(['policy', 'predictor', 'slots', ...resultColumns], rows.map(getResultCells)),
    ...(recall.length > 0 ? [`\nrecall of predictions, by layers behind the fault (0: before the token)\n`] : []),
    ...(recall.length > 0 ? [formatRecall(recall)] : []),
    `\nlocal routing consistency by segment length in tokens (arXiv 2505.16056; SCH with twice the active experts)\n`,
    formatLocalRouting(local),
  ].join('');
}

const resultColumns = [
  'hit rate',
  'with prefetch',
  'faulting layers',
  'uploads: demand',
  'useful',
  'wasted',
  'gap captured',
  'predictor ms',
];

function getResultCells(row: ReplayRow): string[] {
  const { demand, useful, wasted } = row.uploadsPerToken;
  return [
    row.policy,
    row.predictor,
    String(row.slots),
    row.hitRate.toFixed(3),
    row.hitRateAfterPrefetch.toFixed(3),
    ...[row.faultingLayersPerToken, demand, useful, wasted].map((value) => value.toFixed(2)),
    row.gapCaptured?.toFixed(3) ?? '-',
    row.predictorMsPerToken.toFixed(3),
  ];
}

function formatRecall(rows: readonly ReplayRow[]): string {
  const cells = rows.flatMap(({ policy, predictor, slots, recall }) =>
    Object.entries(recall).flatMap(([distance, bySize]) =>
      Object.entries(bySize).map(([size, value]) => [
        policy,
        predictor,
        String(slots),
        distance,
        `recall@${size}`,
        value.toFixed(3),
      ]),
    ),
  );
  return formatTable(['policy', 'predictor', 'slots', 'distance', 'of the best', 'share'], cells);
}

function formatLocalRouting(traces: readonly LocalRouting[]): string {
  const cells = traces.flatMap(({ trace, srp, sch }) =>
    Object.entries(sch).map(([length, value]) => [
      trace,
      length,
      srp[length]?.toFixed(3) ?? 'no conversation is so long',
      value.toFixed(3),
    ]),
  );
  return formatTable(['trace', 'segment', 'SRP', 'SCH'], cells);
}

/** Columns as wide as their widest cell; numbers to the right. */
function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((name, at) => Math.max(name.length, ...rows.map((row) => row[at]?.length ?? 0)));
  const formatRow = (row: readonly string[]) =>
    row.map((cell, at) => (/^[-\d]/.test(cell) ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0)));
  return [header, ...rows].map((row) => `${formatRow(row).join('  ').trimEnd()}\n`).join('');
}
