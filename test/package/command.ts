/**
 * Runs the commands of package.json and other programs as a user does: in a process of their own, with a time limit.
 * Owns what they leave running; never reads their output's meaning.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder with package.json. */
export const repositoryRoot = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

export interface Finished {
  /** Exit status, or the signal that ended it. */
  readonly status: number | string;
  readonly stdout: string;
  readonly stderr: string;
  /** Of stderr; the one that names the error. */
  readonly lastLine: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly limitMs?: number;
}

/** Runs `program` to its end; over the time limit it is killed with everything it started. */
export function runToEnd(program: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const child = start(program, args, options);
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (text) => {
    stdout += text;
  });
  child.stderr?.on('data', (text) => {
    stderr += text;
  });
  const timer = setTimeout(() => killGroup(child), options.limitMs ?? 60_000);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => {
      clearTimeout(timer);
      resolve({ status: status ?? signal ?? 1, stdout, stderr, lastLine: stderr.trimEnd().split('\n').at(-1) ?? '' });
    });
  });
}

export interface Server {
  readonly url: string;
  stop(): void;
}

/** Starts a server and waits until it has printed its address. */
export function startServer(program: string, args: readonly string[], options: RunOptions = {}): Promise<Server> {
  const child = start(program, args, options);
  let output = '';
  return new Promise((resolve, reject) => {
    const fail = (why: string) => {
      killGroup(child);
      reject(new Error(`${program} ${args.join(' ')} ${why}:\n${output}`));
    };
    const timer = setTimeout(() => fail('printed no address in time'), options.limitMs ?? 60_000);
    const read = (text: string) => {
      output += text;
      // With what follows the port: the text may come in pieces.
      const origin = /(http:\/\/127\.0\.0\.1:\d+)[^\d]/.exec(output)?.[1];
      if (origin === undefined) return;
      clearTimeout(timer);
      child.off('exit', exited);
      resolve({ url: `${origin}/`, stop: () => killGroup(child) });
    };
    const exited = () => {
      clearTimeout(timer);
      fail('ended');
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    child.once('error', reject);
    child.once('exit', exited);
  });
}

function start(program: string, args: readonly string[], { cwd = repositoryRoot }: RunOptions): ChildProcess {
  const child = spawn(program, args, {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: undefined, npm_config_loglevel: undefined },
    detached: true,
  });
  child.stdout?.setEncoding('utf8');
  child.stderr?.setEncoding('utf8');
  return child;
}

function killGroup(child: ChildProcess): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  } catch {
    // Gone already.
  }
}
