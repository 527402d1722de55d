/** Where `--trace` goes. The file is written whole or not at all; its format is src/routing/trace.ts. */
import { access, constants, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { LoadedModel, TraceEntry } from '../../src/engine/engine.ts';
import { formatTraceHeader, formatTraceToken } from '../../src/routing/trace.ts';
import { ToolError } from '../tool-error.ts';

/**
 * Before anything runs: whether a file can be put there later.
 * @throws ToolError `BAD_ARGUMENT`
 */
export async function checkTracePath(path: string): Promise<void> {
  const refuse = (why: string) => new ToolError('BAD_ARGUMENT', `--trace is "${path}": ${why}; name a file to write`);
  const found = await stat(path).catch(() => undefined);
  // A device or pipe would be replaced by a file.
  if (found && !found.isFile()) throw refuse('it exists and is no file');
  try {
    await access(dirname(path), constants.W_OK);
  } catch {
    throw refuse(`its folder "${dirname(path)}" does not exist or cannot be written`);
  }
}

/** Replaces an older file. `entries`: one conversation, in order. */
export async function writeTrace(path: string, model: LoadedModel, entries: readonly TraceEntry[]): Promise<void> {
  const { name, moeLayers, moeLayerIndices, experts, expertsPerToken } = model;
  const header = { model: name, layers: moeLayers, layerIndices: moeLayerIndices, experts, expertsPerToken };
  const lines = [
    formatTraceHeader(header),
    ...entries.map(({ token, phase, routes }) => formatTraceToken({ sequence: 0, token, phase, routes })),
  ];
  const partPath = `${path}.${process.pid}.part`;
  try {
    await writeFile(partPath, lines);
    await rename(partPath, path);
  } catch (cause) {
    await rm(partPath, { force: true });
    throw new ToolError('STORAGE', `--trace ${path} could not be written: ${(cause as Error).message}`, { cause });
  }
}
