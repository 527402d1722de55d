/**
 * Owns where Chromium is and with which switches it starts, for every command and test that needs a browser.
 * Never launches it; a browser that is missing is installed, and that is said on stderr only.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { chromium } from 'playwright';
import { ToolError } from './tool-error.ts';

/** Switches for WebGPU on machines without a GPU and in containers, and against traffic of the browser's own. */
export const chromiumArgs: readonly string[] = [
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
];

const programNames = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
const usualPlaces = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/snap/bin/chromium',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
  'C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe',
];

/**
 * Path of a Chromium that is here: the one `WEBMOE_CHROMIUM` names, Playwright's own, or the system's; else undefined.
 * @throws ToolError `NO_BROWSER` when `WEBMOE_CHROMIUM` names no program: an explicit choice is not replaced.
 */
export function findChromium(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const chosen = env.WEBMOE_CHROMIUM;
  if (chosen) {
    if (isProgram(chosen)) return chosen;
    throw new ToolError('NO_BROWSER', `WEBMOE_CHROMIUM is "${chosen}", which is no program; correct it or unset it`);
  }
  const onPath = (env.PATH ?? '').split(delimiter).flatMap((folder) => programNames.map((name) => join(folder, name)));
  return [chromium.executablePath(), ...onPath, ...usualPlaces].find(isProgram);
}

/**
 * Like `findChromium`, but installs one where there is none.
 * @throws ToolError `NO_BROWSER` when no way to install it works.
 */
export function ensureChromium(): string {
  const found = findChromium();
  if (found) return found;
  for (const [program, ...args] of getInstallCommands()) {
    console.error(`webmoe: no Chromium found; trying: ${program} ${args.join(' ')}`);
    // The installers' own output goes to stderr too: stdout belongs to the command's answer.
    const { status } = spawnSync(program, args, { stdio: ['ignore', 2, 2], timeout: 10 * 60_000 });
    const installed = status === 0 ? findChromium() : undefined;
    if (installed) return installed;
  }
  throw new ToolError(
    'NO_BROWSER',
    'no Chromium found and none could be installed; install Chromium or Chrome, or name one in WEBMOE_CHROMIUM',
  );
}

function getInstallCommands(): [program: string, ...args: string[]][] {
  const npx = process.platform === 'win32' ? 'npx.cmd' : 'npx';
  const commands: [string, ...string[]][] = [[npx, '--no-install', 'playwright', 'install', '--with-deps', 'chromium']];
  if (process.platform !== 'linux') return commands;
  const sudo: string[] = process.getuid?.() === 0 ? [] : ['sudo', '-n'];
  const root = (...command: string[]) => [...sudo, ...command] as [string, ...string[]];
  commands.push(root('apt-get', 'update'), root('apt-get', 'install', '-y', 'chromium'));
  commands.push(root('dnf', 'install', '-y', 'chromium'), root('apk', 'add', 'chromium'));
  return commands;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
