import { expect, test } from 'vitest';
import {
  addTotals,
  getPlaywrightTotals,
  getRunTotals,
  getTotalsLine,
  getVitestTotals,
} from '../../../tools/test/totals.ts';

test('counts the assertions of a Vitest report', () => {
  const statuses = ['passed', 'passed', 'failed', 'skipped', 'todo'];
  const report = { testResults: [{ status: 'failed', assertionResults: statuses.map((status) => ({ status })) }] };
  expect(getVitestTotals(report)).toEqual({ passed: 2, failed: 1, skipped: 2 });
});

test('a test file that cannot be loaded is one failed test', () => {
  expect(getVitestTotals({ testResults: [{ status: 'failed', assertionResults: [] }] }).failed).toBe(1);
});

test('a flaky test is a failed one', () => {
  const stats = { expected: 3, unexpected: 1, flaky: 1, skipped: 2 };
  expect(getPlaywrightTotals({ stats })).toEqual({ passed: 3, failed: 2, skipped: 2 });
});

test('a runner that fails without a failed test, runs nothing or leaves no report is one failed test', () => {
  const good = { passed: 2, failed: 0, skipped: 0 };
  expect(getRunTotals(0, good)).toEqual(good);
  expect(getRunTotals(1, good).failed).toBe(1);
  expect(getRunTotals(0, { passed: 0, failed: 0, skipped: 3 }).failed).toBe(1);
  expect(getRunTotals(0, undefined).failed).toBe(1);
  expect(getRunTotals(1, { passed: 2, failed: 4, skipped: 0 }).failed).toBe(4);
});

test('the line names skipped tests only where there are some', () => {
  const totals = addTotals({ passed: 1, failed: 2, skipped: 0 }, { passed: 3, failed: 0, skipped: 0 });
  expect(getTotalsLine(totals)).toBe('4 passed, 2 failed');
  expect(getTotalsLine({ ...totals, skipped: 5 })).toBe('4 passed, 2 failed, 5 skipped');
});
