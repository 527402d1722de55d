/**
 * From what a caller names as a model to the files of a checkpoint: one line per kind of source. Reads nothing itself.
 */
import { type CheckpointFiles, createLoneFile } from '../checkpoint/checkpoint-files';
import { createBlobSource } from '../store/blob-source';
import { createHttpFiles } from '../store/http-files';
import type { LoadProgress, ModelSource } from './engine';

/** @throws EngineError `BAD_ARGUMENT` */
export function openFiles(
  source: ModelSource,
  fetch: typeof globalThis.fetch | undefined,
  onProgress: (progress: LoadProgress) => void,
  signal: AbortSignal | undefined,
): CheckpointFiles {
  if (source.kind === 'file') return createLoneFile(createBlobSource(source.file, source.name));
  return createHttpFiles(source.url, {
    fetch,
    signal,
    onWarning: (message) => onProgress({ phase: 'warning', message }),
    onProgress: (progress) => onProgress({ phase: 'install', ...progress }),
  });
}
