/** Results as text: a table per name, then the checks. Pure; the terminal is its caller's. */
import { type Check, passes } from './checks.ts';
import type { PerfEnvironment, ResultRow, TableName } from './results.ts';

/** Median, and the range beside it where runs differ. Column heads are the metrics, a word per line. */
export function formatTable(table: TableName, rows: readonly ResultRow[]): string {
  const own = rows.filter((row) => row.table === table);
  const names = [...new Set(own.map(({ row }) => row))];
  const metrics = [...new Set(own.map(({ metric }) => metric))];
  const heads = ['', ...metrics].map((metric) => metric.split(/(?=[A-Z])|\./).map((word) => word.toLowerCase()));
  const headLines = Math.max(...heads.map((words) => words.length));
  const lines = [
    ...Array.from({ length: headLines }, (_, line) =>
      heads.map((words) => words[line - (headLines - words.length)] ?? ''),
    ),
    ...names.map((name) => [
      name,
      ...metrics.map((metric) => {
        const result = own.find((row) => row.row === name && row.metric === metric);
        return result ? formatCell(result) : '';
      }),
    ]),
  ];
  const widths = ['', ...metrics].map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const text = lines.map((line) =>
    line
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
  const runs = Math.max(0, ...own.map((row) => row.runs));
  return [`${table} (median of ${runs}, min-max)`, ...text].join('\n');
}

export function formatChecks(checks: readonly Check[]): string {
  return checks
    .map((check) => {
      const { table, claim, value, atMost, atLeast } = check;
      const limit = atMost === undefined ? `at least ${formatNumber(atLeast)}` : `at most ${formatNumber(atMost)}`;
      return `${passes(check) ? 'ok    ' : 'MISSED'}  ${table}: ${claim}: ${formatNumber(value)}, ${limit}`;
    })
    .join('\n');
}

export function formatEnvironment({
  adapter,
  browser,
  node,
  cpu,
  cores,
  loadAverage,
  model,
  date,
  commit,
  peers = {},
}: PerfEnvironment): string {
  const where = browser ?? `Dawn in Node ${node}`;
  const others = Object.entries(peers).map(([name, version]) => `, ${name} ${version}`);
  return `${model} on ${adapter}, ${where}${others.join('')}; ${cpu}, ${cores} cores, load ${loadAverage}; ${date}, commit ${commit ?? 'unknown'}`;
}

function formatCell({ median, min, max }: ResultRow): string {
  const range = [min, max].map(formatNumber).join('-');
  return min === max || formatNumber(min) === formatNumber(max)
    ? formatNumber(median)
    : `${formatNumber(median)} ${range}`;
}

/** Three digits that count. */
function formatNumber(value = Number.NaN): string {
  if (!Number.isFinite(value)) return 'not measured';
  if (Math.abs(value) >= 1000) return Math.round(value).toString();
  return String(Number(value.toPrecision(3)));
}
