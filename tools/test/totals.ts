/**
 * Counts tests from the JSON reports of the runners.
 * Never trusts a report alone: a runner that failed without saying where counts as one failed test.
 */
export interface Totals {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

interface VitestReport {
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

interface PlaywrightReport {
  readonly stats: { expected: number; unexpected: number; flaky: number; skipped: number };
}

/** A test file that could not even be loaded counts as one failed test. */
export function getVitestTotals(report: VitestReport): Totals {
  let [passed, failed, skipped] = [0, 0, 0];
  for (const file of report.testResults) {
    let failedHere = 0;
    for (const { status } of file.assertionResults) {
      if (status === 'passed') passed++;
      else if (status === 'failed') failedHere++;
      else skipped++;
    }
    failed += file.status === 'failed' ? Math.max(failedHere, 1) : failedHere;
  }
  return { passed, failed, skipped };
}

/** There are no retries, so a flaky test would be a failed one. */
export function getPlaywrightTotals({ stats }: PlaywrightReport): Totals {
  return { passed: stats.expected, failed: stats.unexpected + stats.flaky, skipped: stats.skipped };
}

/** What a run counts as, given its exit status and its totals (undefined: no report was written). */
export function getRunTotals(exitStatus: number, totals: Totals | undefined): Totals {
  const known = totals ?? { passed: 0, failed: 0, skipped: 0 };
  const silent = known.failed === 0 && (exitStatus !== 0 || totals === undefined || known.passed === 0);
  return silent ? { ...known, failed: 1 } : known;
}

export function addTotals(a: Totals, b: Totals): Totals {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

/** `12 passed, 0 failed`, and `, 3 skipped` where some were. */
export function getTotalsLine({ passed, failed, skipped }: Totals): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}
