/** A command for program.test.ts: lanes of programs side by side, as `npm test` runs suites. Arguments: `first.mjs,second.mjs` each. */
import { relative } from 'node:path';
import { root, runProgram } from '../../../tools/program.ts';
import { ToolError } from '../../../tools/tool-error.ts';

async function runLane(paths: readonly string[]): Promise<void> {
  for (const path of paths) await runProgram(relative(root, path), []);
}

try {
  await Promise.all(process.argv.slice(2).map((lane) => runLane(lane.split(','))));
} catch (error) {
  if (!(error instanceof ToolError)) throw error;
  console.log(`${error.code}: ${error.message}`);
  process.exit(1);
}
