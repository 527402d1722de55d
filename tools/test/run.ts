/**
 * `npm test` and `npm run test:full`: all suites, and one line with the true totals at the end. `-- --suite NAME` (repeatable)
 * runs some of them. The suite `browser` and the others run side by side, since each leaves a processor idle much of the
 * time; what the others print appears as each of them ends. Never stops at a failed suite.
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
  const lanes = [chosen.filter((suite) => suite === 'browser'), chosen.filter((suite) => suite !== 'browser')];
  const isAlone = lanes.some((lane) => lane.length === 0);
  if (!isAlone) console.log('webmoe: the suite browser runs beside the others, which are printed as they end');
  let totals: Totals;
  try {
    const running = lanes.map((lane) =>
      runLane(lane, { folder, env, limitMs: limitMs[extent], isShown: isAlone || lane[0] === 'browser' }),
    );
    // Also when one is stopped: the other still writes into the folder.
    await Promise.allSettled(running);
    totals = (await Promise.all(running)).reduce(addTotals);
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

interface LaneOptions {
  /** For reports and kept output. */
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
  /** Of each suite. */
  readonly limitMs: number;
  /** Whether the terminal has what a suite prints at once. */
  readonly isShown: boolean;
}

/** Suites one after another. */
async function runLane(suites: readonly Suite[], options: LaneOptions): Promise<Totals> {
  let totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  for (const suite of suites) {
    const outputPath = join(options.folder, `${suite}.log`);
    const result = await runSuite(suite, options, options.isShown ? {} : { outputPath });
    if (!options.isShown) process.stdout.write(await readFile(outputPath));
    console.log(`suite ${suite}: ${getTotalsLine(result)}\n`);
    totals = addTotals(totals, result);
  }
  return totals;
}

async function runSuite(suite: Suite, lane: LaneOptions, output: { readonly outputPath?: string }): Promise<Totals> {
  const runner = runners[suite];
  const reportPath = join(lane.folder, `${suite}.json`);
  const env = { ...lane.env, PLAYWRIGHT_JSON_OUTPUT_FILE: reportPath };
  const options = { env, limitMs: lane.limitMs, ...output };
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
  if (status === 124) console.error(`suite ${suite} was not done after ${lane.limitMs / 60_000} minutes`);
  const report = await readFile(reportPath, 'utf8').then(JSON.parse, () => undefined);
  const totals = report && (runner === 'vitest' ? getVitestTotals(report) : getPlaywrightTotals(report));
  return getRunTotals(status, totals);
}
