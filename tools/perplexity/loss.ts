/** Loss of documents, summed up. Pure: numbers in, the fields of `--json` or a table out. */
import type { ScoreResult } from '../../src/engine/engine.ts';

export interface LossSum extends ScoreResult {
  /** UTF-8 of the contents. */
  readonly bytes: number;
}

export interface Loss extends LossSum {
  readonly bitsPerByte: number;
  /** Per token. */
  readonly perplexity: number;
}

export interface LossReport extends Loss {
  readonly sources: Readonly<Record<string, Loss>>;
}

export const noLoss: LossSum = { tokens: 0, nll: 0, bytes: 0 };

export function addLoss(a: LossSum, b: LossSum): LossSum {
  return { tokens: a.tokens + b.tokens, nll: a.nll + b.nll, bytes: a.bytes + b.bytes };
}

/** `sources`: in the order in which they are reported, at least one. */
export function getLossReport(sources: ReadonlyMap<string, LossSum>): LossReport {
  const total = [...sources.values()].reduce(addLoss, noLoss);
  const named = [...sources].map(([name, sum]) => [name, getLoss(sum)] as const);
  return { ...getLoss(total), sources: Object.fromEntries(named) };
}

function getLoss({ tokens, nll, bytes }: LossSum): Loss {
  return { tokens, nll, bytes, bitsPerByte: nll / Math.LN2 / bytes, perplexity: Math.exp(nll / tokens) };
}

/** One row per source and one for all. */
export function formatLossTable(report: LossReport): string {
  const rows: [string, Loss][] = [...Object.entries(report.sources), ['all', report]];
  const cells = [
    ['source', 'tokens', 'nll', 'bytes', 'bits/byte', 'perplexity'],
    ...rows.map(([name, { tokens, nll, bytes, bitsPerByte, perplexity }]) => [
      name,
      String(tokens),
      nll.toFixed(2),
      String(bytes),
      bitsPerByte.toFixed(4),
      perplexity.toFixed(3),
    ]),
  ];
  const widths = cells[0]?.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0))) ?? [];
  const pad = (cell: string, column: number) =>
    column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0);
  return cells.map((row) => `${row.map(pad).join('  ')}\n`).join('');
}
