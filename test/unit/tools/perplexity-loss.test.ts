import { expect, test } from 'vitest';
import { formatLossTable, getLossReport } from '../../../tools/perplexity/loss.ts';

const sums = new Map([
  ['talk', { tokens: 10, nll: 8 * Math.LN2, bytes: 4 }],
  ['__proto__', { tokens: 30, nll: 24 * Math.LN2, bytes: 28 }],
]);

test('the total has the sums of its sources, and rates of its own', () => {
  const report = getLossReport(sums);
  expect(report).toMatchObject({ tokens: 40, bytes: 32, bitsPerByte: 1 });
  expect(report.perplexity).toBeCloseTo(2 ** 0.8, 12);
  expect(Object.keys(report.sources)).toEqual(['talk', '__proto__']);
  expect(report.sources.talk).toMatchObject({ tokens: 10, bytes: 4, bitsPerByte: 2 });
});

test('the table has one row per source and one for all', () => {
  const rows = formatLossTable(getLossReport(sums)).split('\n');
  expect(rows.map((row) => row.split(/ +/)[0])).toEqual(['source', 'talk', '__proto__', 'all', '']);
  expect(new Set(rows.slice(0, -1).map((row) => row.length)).size).toBe(1);
});
