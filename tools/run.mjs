/**
 * Entry of every npm script: `node tools/run.mjs <command> [arguments]`.
 * Owns the table of commands, the first-run install of npm packages and the form of an error on the way out
 * (exit status 1, last line of stderr `CODE: message`). Plain Node without packages: it runs before there are any.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { stripVTControlCharacters } from 'node:util';

/** Command name -> module; each exports `run(args: string[]): Promise<number>`, the exit status. */
const commands = {
  demo: 'demo.ts',
  test: 'test/run.ts',
  'test:full': 'test/run-full.ts',
  check: 'check.ts',
  generate: 'generate/cli.ts',
  perplexity: 'perplexity/cli.ts',
  replay: 'replay/cli.ts',
  perf: 'perf/cli.ts',
  teach: 'teach/cli.ts',
  build: 'build/cli.ts',
  screenshots: 'screenshots.ts',
};

const toolsFolder = dirname(fileURLToPath(import.meta.url));
const root = dirname(toolsFolder);

/** Fails with `CODE: message` before any module with packages can be loaded. */
class StartError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  throw new StartError('UNSUPPORTED', `this is Node ${process.versions.node}; webmoe needs Node 20.19 or later`);
}

/** What package-lock.json asks for and node_modules does not have; undefined when nothing is missing. */
function findStalePackage() {
  const installedLock = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(installedLock)) return 'node_modules';
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(installedLock, 'utf8')).packages;
  // Contents and not file times: a checkout or a copy gives every file a new time.
  const stale = Object.entries(wanted).find(([path, entry]) => {
    if (path === '' || (entry.optional && !installed[path])) return false;
    return installed[path]?.version !== entry.version;
  });
  return stale?.[0];
}

function ensurePackages() {
  const stale = findStalePackage();
  if (!stale) return;
  // The lock stays as it is, and npm says why it failed also under `npm run --silent`.
  const how = stale === 'node_modules' ? ['ci'] : ['install', '--no-save'];
  const args = [...how, '--no-audit', '--no-fund', '--loglevel=error'];
  console.error(`webmoe: ${stale} is missing or outdated; running npm ${args.join(' ')}`);
  const npmScript = process.env.npm_execpath;
  const [program, first] = npmScript ? [process.execPath, [npmScript]] : ['npm', []];
  const { status } = spawnSync(program, [...first, ...args], {
    cwd: root,
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32' && !npmScript,
  });
  if (status !== 0) {
    throw new StartError('NETWORK', `npm ${args[0]} failed (exit status ${status}); see above, then run it by hand`);
  }
}

async function main([name, ...args]) {
  checkNode();
  if (!name || !Object.hasOwn(commands, name)) {
    throw new StartError('BAD_ARGUMENT', `no command "${name ?? ''}"; there are: ${Object.keys(commands).join(', ')}`);
  }
  ensurePackages();
  const { register } = await import('tsx/esm/api');
  register();
  const { run } = await import(pathToFileURL(join(toolsFolder, commands[name])).href);
  return run(args);
}

/** Leaves once stdout is flushed, whatever handles are still open. */
function leave(status) {
  process.stdout.write('', () => process.exit(status));
}

try {
  leave(await main(process.argv.slice(2)));
} catch (error) {
  const code = /^[A-Z]+(_[A-Z]+)*$/.test(error?.code ?? '') ? error.code : 'INTERNAL';
  // A bug's stack is for the people who mend it; the last line stays one line, without a terminal's colours.
  if (code === 'INTERNAL' && error?.stack) console.error(error.stack);
  const message = stripVTControlCharacters(String(error?.message ?? error)).trim();
  console.error(`${code}: ${code === 'INTERNAL' ? message.split('\n')[0] : message.replaceAll(/\s*\n\s*/g, ' ')}`);
  leave(1);
}
