/**
 * `npm run check`: types, lint and format, dead code, structure rules, docstrings of what is exported. Runs all of them, also after one failed.
 */
import { runProgram } from './program.ts';
import { ToolError } from './tool-error.ts';

/** What tsc knows from its last run; halves the time of the next. */
const typesCache = 'node_modules/.cache/webmoe/types.tsbuildinfo';

const steps: readonly (readonly [name: string, script: string, ...args: string[]])[] = [
  ['types', 'node_modules/typescript/bin/tsc', '--noEmit', '--incremental', '--tsBuildInfoFile', typesCache],
  ['lint and format', 'node_modules/@biomejs/biome/bin/biome', 'check', '--error-on-warnings'],
  ['dead code', 'node_modules/knip/bin/knip.js', '--no-progress'],
  ['structure', 'node_modules/vitest/vitest.mjs', 'run', '--project', 'unit', 'test/structure.test.ts'],
  // What the build of the reference would refuse: an exported name without a docstring, or one that names what is not exported.
  ['API reference', 'node_modules/typedoc/bin/typedoc', '--logLevel', 'Warn', '--emit', 'none'],
];

export async function run(args: string[]): Promise<number> {
  if (args.length > 0) throw new ToolError('BAD_ARGUMENT', `check takes no arguments, got "${args[0]}"`);
  const failed: string[] = [];
  for (const [name, script, ...rest] of steps) {
    if ((await runProgram(script, rest)) !== 0) failed.push(name);
    console.log(`check ${name}: ${failed.includes(name) ? 'FAILED' : 'ok'}`);
  }
  return failed.length === 0 ? 0 : 1;
}
