/** `npm run build`: the library and its declarations into dist/, as `npm pack` takes them. */
import { join } from 'node:path';
import { build } from 'vite';
import { root, runProgram } from './program.ts';
import { ToolError } from './tool-error.ts';

export async function run(args: string[]): Promise<number> {
  if (args.length > 0) throw new ToolError('BAD_ARGUMENT', `build takes no arguments, got "${args[0]}"`);
  await build({ root, configFile: join(root, 'vite.config.ts'), logLevel: 'warn' });
  return runProgram('node_modules/typescript/bin/tsc', ['-p', 'tsconfig.build.json']);
}
