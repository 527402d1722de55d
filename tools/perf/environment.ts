/** Where and on what a run measured. Reads the machine and git; measures nothing. */
import { execFileSync } from 'node:child_process';
import { availableParallelism, cpus, loadavg } from 'node:os';
import { root } from '../program.ts';
import type { PerfEnvironment } from './results.ts';

/** @param browser its name and version, or null without one */
export function getEnvironment(
  run: Pick<PerfEnvironment, 'adapter' | 'browser' | 'model' | 'tokens' | 'prompts' | 'loadAverage' | 'peers'>,
): PerfEnvironment {
  return {
    runtime: run.browser === null ? 'node' : 'browser',
    adapter: run.adapter,
    browser: run.browser,
    node: process.versions.node,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    loadAverage: run.loadAverage,
    model: run.model,
    date: new Date().toISOString(),
    commit: getCommit(),
    tokens: run.tokens,
    ...(run.prompts && { prompts: run.prompts }),
    ...(run.peers && { peers: run.peers }),
  };
}

export function getLoadAverage(): number {
  return Math.round((loadavg()[0] ?? 0) * 100) / 100;
}

/** With `-changed` behind it when files differ from the commit. */
function getCommit(): string | null {
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    return git('rev-parse', '--short=10', 'HEAD') + (git('status', '--porcelain') === '' ? '' : '-changed');
  } catch {
    return null;
  }
}
