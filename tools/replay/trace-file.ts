/** A routing trace that is a file. Owns opening it, and what is said when it is not there. */
import { createReadStream } from 'node:fs';
import { basename } from 'node:path';
import { EngineError } from '../../src/errors.ts';
import { type PackedTrace, readPackedTrace } from '../../src/routing/replay/packed-trace.ts';
import { ToolError } from '../tool-error.ts';

/**
 * @param flag that named the file, for messages
 * @throws ToolError `BAD_ARGUMENT` when there is no such file; EngineError `BAD_FILE` when it is no trace.
 */
export async function readTraceFile(path: string, flag = '--trace'): Promise<PackedTrace> {
  try {
    return await readPackedTrace(createReadStream(path), basename(path));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (error instanceof EngineError || !code) throw error;
    const why = code === 'ENOENT' ? 'which does not exist' : `which cannot be read (${code})`;
    throw new ToolError('BAD_ARGUMENT', `${flag} is "${path}", ${why}; give a file that generate --trace wrote`);
  }
}
