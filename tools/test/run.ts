/**
 * `npm test` and `npm run test:full`: all suites one after another, and one line with the true totals at the end.
 * `-- --suite NAME` (repeatable) runs some of them. Never stops at a failed suite.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureChromium } from '../chromium.ts';
import { runProgram } from '../program.ts';
import { ToolError } from '../tool-error.ts';
import { addTotals, getPlaywrightTotals, getRunTotals, getTotalsLine, getVitestTotals, type Totals } from './totals.ts';

const runners = { unit: 'vitest', browser: 'vitest', e2e: 'playwright', package: 'playwright' } as const;
type Suite = keyof typeof runners;
const suites = Object.keys(runners) as Suite[];

/** A suite that is not done by then hangs; a machine that others share may take three times as long as a quiet one. */
const limitMs = { sample: 30 * 60_000, full: 120 * 60_000 };

export function run(args: string[]): Promise<number> {
  return runSuites(args, 'sample');
}

/** Exit status 0 when every test passed. `full` sets `WEBMOE_FULL=1`, which the properties' tests read. */
export async function runSuites(args: string[], extent: 'sample' | 'full'): Promise<number> {
  const chosen = parseSuites(args);
  const env: Record<string, string> = { WEBMOE_FULL: extent === 'full' ? '1' : '' };
  if (chosen.some((suite) => suite !== 'unit')) env.WEBMOE_CHROMIUM = ensureChromium();
  const folder = await mkdtemp(join(tmpdir(), 'webmoe-test-'));
  let totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  try {
    for (const suite of chosen) {
      const result = await runSuite(suite, join(folder, `${suite}.json`), env, limitMs[extent]);
      console.log(`suite ${suite}: ${getTotalsLine(result)}\n`);
      totals = addTotals(totals, result);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  console.log(getTotalsLine(totals));
  return totals.failed === 0 ? 0 : 1;
}

function parseSuites(args: string[]): readonly Suite[] {
  let named: string[];
  try {
    named = parseArgs({ args, options: { suite: { type: 'string', multiple: true } } }).values.suite ?? [];
  } catch (error) {
    throw new ToolError('BAD_ARGUMENT', `${(error as Error).message}; allowed: --suite ${suites.join('|')}`);
  }
  const unknown = named.find((name) => !Object.hasOwn(runners, name));
  if (unknown) throw new ToolError('BAD_ARGUMENT', `--suite is "${unknown}"; allowed: ${suites.join(', ')}`);
  return named.length === 0 ? suites : suites.filter((suite) => named.includes(suite));
}

async function runSuite(
  suite: Suite,
  reportPath: string,
  env: Record<string, string>,
  suiteLimitMs: number,
): Promise<Totals> {
  const runner = runners[suite];
  const options = { env: { ...env, PLAYWRIGHT_JSON_OUTPUT_FILE: reportPath }, limitMs: suiteLimitMs };
  const status = await (runner === 'vitest'
    ? runProgram(
        'node_modules/vitest/vitest.mjs',
        ['run', '--project', suite, '--reporter=default', '--reporter=json', `--outputFile.json=${reportPath}`],
        options,
      )
    : runProgram(
        'node_modules/@playwright/test/cli.js',
        ['test', '--project', suite, '--reporter=list,json'],
        options,
      ));
  if (status === 124) console.error(`suite ${suite} was not done after ${suiteLimitMs / 60_000} minutes`);
  const report = await readFile(reportPath, 'utf8').then(JSON.parse, () => undefined);
  const totals = report && (runner === 'vitest' ? getVitestTotals(report) : getPlaywrightTotals(report));
  return getRunTotals(status, totals);
}
