/** A file that a command writes at its end: whole or not at all, and refused before anything runs where it cannot be. */
import { access, constants, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ToolError } from './tool-error.ts';

/**
 * Before anything runs: whether a file can be put there later.
 * @param flag that named the file, for messages
 * @throws ToolError `BAD_ARGUMENT`
 */
export async function checkOutputPath(path: string, flag: string): Promise<void> {
  const refuse = (why: string) => new ToolError('BAD_ARGUMENT', `${flag} is "${path}": ${why}; name a file to write`);
  const found = await stat(path).catch(() => undefined);
  // A device or pipe would be replaced by a file.
  if (found && !found.isFile()) throw refuse('it exists and is no file');
  try {
    await access(dirname(path), constants.W_OK);
  } catch {
    throw refuse(`its folder "${dirname(path)}" does not exist or cannot be written`);
  }
}

/**
 * Replaces an older file.
 * @throws ToolError `STORAGE`; nothing of it is left then.
 */
export async function writeOutputFile(path: string, content: string | Uint8Array | readonly string[]): Promise<void> {
  const partPath = `${path}.${process.pid}.part`;
  try {
    await writeFile(partPath, content);
    await rename(partPath, path);
  } catch (cause) {
    await rm(partPath, { force: true });
    const why = (cause as Error).message;
    throw new ToolError('STORAGE', `${path} could not be written (${why}); make room, or name another place`, {
      cause,
    });
  }
}
