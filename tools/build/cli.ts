/** `npm run build`: the library, its declarations and its API reference into dist/, as `npm pack` takes them. */
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { build } from 'vite';
import { root, runProgram } from '../program.ts';
import { ToolError } from '../tool-error.ts';

export async function run(args: string[]): Promise<number> {
  if (args.length > 0) throw new ToolError('BAD_ARGUMENT', `build takes no arguments, got "${args[0]}"`);
  await build({ root, configFile: join(root, 'vite.config.ts'), logLevel: 'warn' });
  const status = await runProgram('node_modules/typescript/bin/tsc', ['-p', 'tsconfig.build.json']);
  if (status !== 0) return status;
  await addExtensions(join(root, 'dist', 'types'));
  // Fails where an exported name has no docstring, or one names what is not exported.
  return runProgram('node_modules/typedoc/bin/typedoc', ['--logLevel', 'Warn']);
}

/**
 * Relative imports in declarations get `.js`: the sources leave it out, but under `moduleResolution: nodenext` a type
 * imported without it silently becomes `any`.
 */
async function addExtensions(folder: string): Promise<void> {
  const paths = (await readdir(folder, { recursive: true })).filter((path) => path.endsWith('.d.ts'));
  for (const path of paths.map((name) => join(folder, name))) {
    const text = await readFile(path, 'utf8');
    const complete = text.replaceAll(/((?:from|import) ?\(?)'(\.[^']*)'/g, (_, before: string, specifier: string) => {
      if (!existsSync(join(dirname(path), `${specifier}.d.ts`))) {
        throw new ToolError('INTERNAL', `${path} imports "${specifier}", which has no declarations`);
      }
      return `${before}'${specifier}.js'`;
    });
    await writeFile(path, complete);
  }
}
