/** perf-results.json: read before anything is measured, written whole or not at all. */
import { readFile } from 'node:fs/promises';
import { writeOutputFile } from '../output-file.ts';
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
export function writeResults(path: string, results: PerfResults): Promise<void> {
  return writeOutputFile(path, `${JSON.stringify(results, null, 1)}\n`);
}
