/** A command that is stopped leaves nothing running and starts nothing more. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';

const waits = 'setInterval(() => {}, 1000);';
const stays = `process.on('SIGINT', () => {}); ${waits}`;
/** Each says its name and process when it has begun. */
const programs = {
  ends: `console.log('ends', process.pid); ${waits}`,
  stays: `import { spawn } from 'node:child_process';
    spawn(process.execPath, ['-e', "console.log('child', process.pid); ${stays}"], { stdio: 'inherit' });
    console.log('stays', process.pid); ${stays}`,
  next: `console.log('next', process.pid);`,
};

let folder: string;
let command: ChildProcess;
let output: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webmoe-program-'));
  for (const [name, code] of Object.entries(programs)) await writeFile(join(folder, `${name}.mjs`), code);
});

afterEach(async () => {
  // What a failed test left.
  if (command.exitCode === null) command.kill('SIGKILL');
  for (const [, pid] of output.matchAll(/^\w+ (\d+)$/gm)) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // Gone, as it should be.
    }
  }
  await rm(folder, { recursive: true, force: true });
});

/** Starts lanes of programs and waits until these have begun. */
async function start(
  lanes: readonly string[],
  begun: readonly string[],
): Promise<{ readonly ended: Promise<unknown> }> {
  const paths = lanes.map((lane) => lane.replaceAll(/\w+/g, (name) => `${join(folder, name)}.mjs`));
  const script = fileURLToPath(new URL('two-lanes.ts', import.meta.url));
  output = '';
  command = spawn(process.execPath, ['--import', 'tsx/esm', script, ...paths], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  command.stdout?.setEncoding('utf8').on('data', (text) => {
    output += text;
  });
  // All that was started writes to this pipe: it closes when the last of them has ended.
  const ended = new Promise((resolve) => command.once('close', resolve));
  await vi.waitFor(
    () => expect(begun.filter((name) => !new RegExp(`^${name} \\d+$`, 'm').test(output))).toEqual([]),
    30_000,
  );
  return { ended };
}

it('stopped while two programs run, one of which pays no heed, a command starts no third and leaves nothing', async () => {
  const { ended } = await start(['ends,next', 'stays,next'], ['ends', 'stays', 'child']);
  command.kill('SIGINT');
  expect(await ended).toBe(1);
  expect(output).toContain('ABORTED: stopped by SIGINT');
  expect(output).not.toContain('next');
});

it('a program that pays no heed has some seconds and is killed then, however often it is asked', async () => {
  const { ended } = await start(['stays,next'], ['stays', 'child']);
  const startMs = performance.now();
  command.kill('SIGINT');
  command.kill('SIGINT');
  expect(await ended).toBe(1);
  expect(performance.now() - startMs).toBeGreaterThan(2900);
  expect(output).not.toContain('next');
});
