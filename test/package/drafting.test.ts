/**
 * What drafts bring on prompts that nothing was tuned by, as `npm run perf` counts it: the first messages of validation documents,
 * which lie beside the repository on machines that train, and are not part of it. See docs/drafting.md.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@playwright/test';
import { type Check, passes } from '../../tools/perf/checks.ts';
import { repositoryRoot, runToEnd } from './command';

const validation = join(repositoryRoot, '../shared/corpus/valid.jsonl.gz');

/** Counters of the ladder's checks; the others are times. */
const counted = [
  'rungs with the same tokens and log-probabilities, as a share',
  '50%: round trips of (e) / (b)',
  '50%: round trips of (e) / (c)',
  '50%: uploads of (e) / (c)',
  '50%: gap captured by (e)',
  '50%: tokens a pass of (g)',
  '50%: round trips of (g)',
  '50%: uploads of (g) / (d)',
  '25%: round trips of (g)',
  '25%: uploads of (g) / (d)',
];

test('on twelve unseen prompts drafts and forecasts keep every counter that is asked of the ladder', async () => {
  test.skip(!process.env.WEBMOE_FULL, 'minutes of measuring: npm run test:full');
  test.skip(!existsSync(validation), `not measured: ${validation} is needed, and is not here`);
  test.setTimeout(5_400_000);
  const flags = ['--table', 'ladder', '--prompts', validation, '--runs', '1', '--tokens', '48', '--json'];
  const finished = await runToEnd('npm', ['run', '--silent', 'perf', '--', ...flags], { limitMs: 5_300_000 });
  // Status 1 is a missed check, which may be one of time.
  expect(finished.stdout, finished.stderr).toMatch(/^\{.*\}\n$/);
  const checks: Check[] = JSON.parse(finished.stdout).checks;
  for (const { claim, value } of checks) console.log(`${claim}: ${value}`);
  const kept = checks.filter(({ claim }) => counted.includes(claim));
  expect(kept.map(({ claim, value }) => [claim, typeof value])).toEqual(counted.map((claim) => [claim, 'number']));
  expect(kept.filter((check) => !passes(check))).toEqual([]);
});
