/**
 * Runs another Node program for a command: in its own process group, so that nothing it started outlives it.
 * Never reads its output.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder with package.json. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Killed after this time, with everything it started. */
  readonly limitMs?: number;
  /** File that takes what it prints; absent: the terminal. */
  readonly outputPath?: string;
}

/**
 * Runs `node <script> <args>`; `script` is relative to the root.
 * @returns its exit status; 124 when the time ran out, 128 and more when a signal ended it.
 */
export function runProgram(script: string, args: readonly string[], options: ProgramOptions = {}): Promise<number> {
  const grouped = process.platform !== 'win32';
  const output = options.outputPath === undefined ? 'inherit' : openSync(options.outputPath, 'w');
  const child = spawn(process.execPath, [join(root, script), ...args], {
    cwd: root,
    stdio: ['ignore', output, output],
    env: { ...process.env, ...options.env },
    detached: grouped,
  });
  if (typeof output === 'number') closeSync(output);
  const kill = (signal: NodeJS.Signals) => {
    if (child.pid === undefined) return;
    try {
      if (grouped) process.kill(-child.pid, signal);
      else child.kill(signal);
    } catch {
      // The group is gone already.
    }
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const forward = (signal: NodeJS.Signals) => {
    kill(signal);
    setTimeout(() => process.exit(130), 3000).unref();
  };
  for (const signal of signals) process.on(signal, forward);
  let timedOut = false;
  const timer =
    options.limitMs === undefined
      ? undefined
      : setTimeout(() => {
          timedOut = true;
          kill('SIGKILL');
        }, options.limitMs);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (status, signal) => {
      clearTimeout(timer);
      for (const name of signals) process.off(name, forward);
      kill('SIGKILL');
      resolve(timedOut ? 124 : (status ?? (signal === 'SIGINT' ? 130 : 143)));
    });
  });
}
