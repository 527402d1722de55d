/**
 * Runs another Node program for a command: in its own process group, so that nothing it started outlives it, also when the
 * command is told to stop (Ctrl-C). Never reads its output.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ToolError } from './tool-error.ts';

/** The folder with package.json. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Killed after this time, with everything it started. */
  readonly limitMs?: number;
  /** File that takes what it prints; absent: the terminal. */
  readonly outputPath?: string;
}

type Kill = (signal: NodeJS.Signals) => void;

const stopSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** What has not ended so long after such a signal is killed. A second one changes nothing: npm repeats that of a terminal. */
const graceMs = 3000;

/** One for each program that runs now. */
const groups = new Set<Kill>();
let stoppedBy: NodeJS.Signals | undefined;

const killGroups = () => {
  for (const kill of groups) kill('SIGKILL');
};

function stop(signal: NodeJS.Signals): void {
  if (stoppedBy !== undefined) return;
  stoppedBy = signal;
  for (const kill of groups) kill(signal);
  setTimeout(killGroups, graceMs).unref();
}

/**
 * Runs `node <script> <args>`; `script` is relative to the root.
 * @returns its exit status; 124 when the time ran out, 128 and more when a signal ended it.
 * @throws ToolError `ABORTED` once this process was told to stop: after the program has ended, and instead of starting one.
 */
export function runProgram(script: string, args: readonly string[], options: ProgramOptions = {}): Promise<number> {
  if (stoppedBy !== undefined) return Promise.reject(createStopError(stoppedBy));
  const grouped = process.platform !== 'win32';
  const output = options.outputPath === undefined ? 'inherit' : openSync(options.outputPath, 'w');
  const child = spawn(process.execPath, [join(root, script), ...args], {
    cwd: root,
    stdio: ['ignore', output, output],
    env: { ...process.env, ...options.env },
    detached: grouped,
  });
  if (typeof output === 'number') closeSync(output);
  const kill: Kill = (signal) => {
    if (child.pid === undefined) return;
    try {
      if (grouped) process.kill(-child.pid, signal);
      else child.kill(signal);
    } catch {
      // The group is gone already.
    }
  };
  addGroup(kill);
  let timedOut = false;
  const timer =
    options.limitMs === undefined
      ? undefined
      : setTimeout(() => {
          timedOut = true;
          kill('SIGKILL');
        }, options.limitMs);
  return new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (status, signal) => {
      if (stoppedBy !== undefined) reject(createStopError(stoppedBy));
      else resolve(timedOut ? 124 : (status ?? (signal === 'SIGINT' ? 130 : 143)));
    });
  }).finally(() => {
    clearTimeout(timer);
    kill('SIGKILL');
    removeGroup(kill);
  });
}

/** While there is a group, a signal to this process goes to it, and this process leaves none behind. */
function addGroup(kill: Kill): void {
  if (groups.size === 0) {
    for (const signal of stopSignals) process.on(signal, stop);
    process.on('exit', killGroups);
  }
  groups.add(kill);
}

function removeGroup(kill: Kill): void {
  groups.delete(kill);
  // Once stopped, signals stay caught: the command tidies up, and that takes a moment.
  if (groups.size > 0 || stoppedBy !== undefined) return;
  for (const signal of stopSignals) process.off(signal, stop);
  process.off('exit', killGroups);
}

function createStopError(signal: NodeJS.Signals): ToolError {
  return new ToolError('ABORTED', `stopped by ${signal}`);
}
