import { expect, test } from 'vitest';
import {
  getMedian,
  getPercentile,
  mergeResults,
  type PerfEnvironment,
  type ResultRow,
  summarise,
} from '../../../tools/perf/results.ts';

const environment = (date: string): PerfEnvironment => ({
  runtime: 'browser',
  adapter: 'adapter',
  browser: 'Chrome/1',
  node: '20',
  cpu: 'cpu',
  cores: 2,
  loadAverage: 0,
  model: 'model',
  date,
  commit: null,
  tokens: 64,
});
const row = (table: ResultRow['table'], name: string, median: number): ResultRow => ({
  table,
  row: name,
  metric: 'tokensPerSecond',
  unit: 'tokens/s',
  median,
  min: median,
  max: median,
  runs: 1,
});

test('the median of an even number of values lies between the middle two', () => {
  expect(getMedian([4, 1, 3])).toBe(3);
  expect(getMedian([4, 1, 3, 100])).toBe(3.5);
  expect(getMedian([])).toBeNaN();
});

test('a percentile is one of the values', () => {
  const values = Array.from({ length: 20 }, (_, index) => 20 - index);
  expect(getPercentile(values, 50)).toBe(10);
  expect(getPercentile(values, 95)).toBe(19);
  expect(getPercentile([7], 95)).toBe(7);
});

test('runs of a row become one result per metric, without what was not measured', () => {
  const runs = [
    { ms: { value: 3, unit: 'ms' }, ratio: { value: Number.NaN, unit: 'ratio' } },
    { ms: { value: 1, unit: 'ms' }, ratio: { value: 2, unit: 'ratio' } },
    { ms: { value: 2, unit: 'ms' } },
  ];
  expect(summarise('ladder', 'a row', runs)).toEqual([
    { table: 'ladder', row: 'a row', metric: 'ms', unit: 'ms', median: 2, min: 1, max: 3, runs: 3 },
    { table: 'ladder', row: 'a row', metric: 'ratio', unit: 'ratio', median: 2, min: 2, max: 2, runs: 1 },
  ]);
});

test('a metric that no run measured has no result', () => {
  expect(summarise('ladder', 'a row', [{ ratio: { value: Number.NaN, unit: 'ratio' } }])).toEqual([]);
});

test('a table that ran takes the place of its older rows, gone ones included; others stay with their environment', () => {
  const older = mergeResults(
    undefined,
    environment('first'),
    ['ladder', 'storage'],
    [row('storage', 'memory', 1), row('ladder', 'old name', 1), row('ladder', 'kept name', 1)],
  );
  const merged = mergeResults(older, environment('second'), ['ladder'], [row('ladder', 'kept name', 2)]);
  expect(merged.results).toEqual([row('ladder', 'kept name', 2), row('storage', 'memory', 1)]);
  expect(merged.environment.date).toBe('second');
  expect(merged.environments.ladder?.date).toBe('second');
  expect(merged.environments.storage?.date).toBe('first');
});
