/**
 * The rows of perf-results.json: from samples to medians, and how a run's tables replace older ones. Pure.
 */

/** What `--table` may name in this version. */
export const tableNames = [
  'kernels',
  'ladder',
  'ladder-delayed',
  'predictors',
  'shadow',
  'decode',
  'prefill',
  'structured',
  'peers',
  'faults',
  'storage',
] as const;
export type TableName = (typeof tableNames)[number];

export interface PerfEnvironment {
  readonly runtime: 'browser' | 'node';
  readonly adapter: string;
  /** Null when none was used. */
  readonly browser: string | null;
  readonly node: string;
  readonly cpu: string;
  readonly cores: number;
  /** Of the last minute, when the run began: what else the machine did. */
  readonly loadAverage: number;
  readonly model: string;
  readonly date: string;
  /** Null outside a git checkout. */
  readonly commit: string | null;
  /** Generated per prompt, `--tokens`. */
  readonly tokens: number;
  /** With `--prompts`: the file's name, and how many of its first messages were asked. */
  readonly prompts?: { readonly file: string; readonly count: number };
  /** Versions of the other runtimes, by package, where they were measured. */
  readonly peers?: Readonly<Record<string, string>>;
}

export interface ResultRow {
  readonly table: TableName;
  readonly row: string;
  readonly metric: string;
  readonly unit: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly runs: number;
}

export interface PerfResults {
  /** Of the newest run. */
  readonly environment: PerfEnvironment;
  /** Of the run that each table comes from: tables may be run one by one. */
  readonly environments: Readonly<Partial<Record<TableName, PerfEnvironment>>>;
  readonly results: readonly ResultRow[];
}

/** What one run of a row gave, by metric. Infinite or missing values are left out. */
export type Metrics = Readonly<Record<string, { readonly value: number; readonly unit: string }>>;

export function getMedian(values: readonly number[]): number {
  const ascending = [...values].sort((a, b) => a - b);
  const half = ascending.length >> 1;
  const upper = ascending[half] ?? Number.NaN;
  return ascending.length % 2 === 1 ? upper : ((ascending[half - 1] ?? Number.NaN) + upper) / 2;
}

/** The value that a share of the others does not exceed (nearest rank). */
export function getPercentile(values: readonly number[], percent: number): number {
  const ascending = [...values].sort((a, b) => a - b);
  return ascending[Math.max(0, Math.ceil((percent / 100) * ascending.length) - 1)] ?? Number.NaN;
}

/** Runs of one row -> a result per metric, in the order of first appearance. */
export function summarise(table: TableName, row: string, runs: readonly Metrics[]): ResultRow[] {
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run)))];
  return metrics.flatMap((metric) => {
    const samples = runs.flatMap((run) => run[metric] ?? []).filter(({ value }) => Number.isFinite(value));
    const values = samples.map(({ value }) => value);
    if (values.length === 0) return [];
    return {
      table,
      row,
      metric,
      unit: samples[0]?.unit ?? '',
      median: getMedian(values),
      min: Math.min(...values),
      max: Math.max(...values),
      runs: values.length,
    };
  });
}

/** Rows of the tables that were run take the place of older ones; other tables stay, with their environment. */
export function mergeResults(
  older: PerfResults | undefined,
  environment: PerfEnvironment,
  tables: readonly TableName[],
  rows: readonly ResultRow[],
): PerfResults {
  const kept = (older?.results ?? []).filter(({ table }) => !tables.includes(table));
  return {
    environment,
    environments: { ...older?.environments, ...Object.fromEntries(tables.map((table) => [table, environment])) },
    results: tableNames.flatMap((name) => [...kept, ...rows].filter(({ table }) => table === name)),
  };
}

export function findMedian(rows: readonly ResultRow[], table: TableName, row: string, metric: string): number {
  return rows.find((r) => r.table === table && r.row === row && r.metric === metric)?.median ?? Number.NaN;
}
