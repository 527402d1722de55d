/** perf-results.json: read before anything is measured, written whole or not at all. */
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { ToolError } from '../tool-error.ts';
import type { PerfResults } from './results.ts';

/**
 * What an earlier run left, or undefined.
 * @throws ToolError `BAD_FILE`
 */
export async function readResults(path: string): Promise<PerfResults | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw refuse(path, (cause as Error).message, cause);
  }
  let value: Partial<PerfResults> | null;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw refuse(path, `it is not JSON (${(cause as Error).message})`, cause);
  }
  if (!Array.isArray(value?.results) || typeof value.environments !== 'object') {
    throw refuse(path, 'it has no results and environments');
  }
  return value as PerfResults;
}

function refuse(path: string, why: string, cause?: unknown): ToolError {
  return new ToolError('BAD_FILE', `${path}: ${why}; new tables are merged into it, so mend or delete it`, { cause });
}

/** @throws ToolError `STORAGE` */
export async function writeResults(path: string, results: PerfResults): Promise<void> {
  const partPath = `${path}.${process.pid}.part`;
  try {
    await writeFile(partPath, `${JSON.stringify(results, null, 1)}\n`);
    await rename(partPath, path);
  } catch (cause) {
    await rm(partPath, { force: true });
    throw new ToolError('STORAGE', `${path} could not be written: ${(cause as Error).message}`, { cause });
  }
}
