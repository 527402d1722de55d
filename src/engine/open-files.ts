/**
 * From what a caller names as a model to the files of a checkpoint: one line per kind of source. Reads nothing itself.
 */
import type { CheckpointFiles } from '../checkpoint/checkpoint-files';
import { createHttpFiles } from '../store/http-files';
import type { DownloadProgress, HttpSourceOptions } from '../store/http-source';
import { isHubUrl, openHubFiles } from '../store/hub-files';
import { openLocalFile, openLocalFiles } from '../store/local-files';
import type { LoadProgress, ModelSource } from './engine';

/** @throws EngineError `BAD_ARGUMENT`; of a repository also `NETWORK`, `ABORTED`; of handles `STORAGE` */
export async function openFiles(
  source: ModelSource,
  given: Pick<HttpSourceOptions, 'fetch' | 'signal' | 'retryDelaysMs' | 'stallTimeoutMs'>,
  onProgress: (progress: LoadProgress) => void,
): Promise<CheckpointFiles> {
  const onWarning = (message: string) => onProgress({ phase: 'warning', message });
  if (source.kind === 'file') return openLocalFile(source.file, source.name);
  if (source.kind === 'folder') {
    return openLocalFiles(source.folder, source.name, { onWarning, signal: given.signal });
  }
  const options = {
    ...given,
    onWarning,
    onProgress: (progress: DownloadProgress) => onProgress({ phase: 'install', ...progress }),
  };
  if (!isHubUrl(source.url)) return createHttpFiles(source.url, options);
  return openHubFiles(source.url, { ...options, accessToken: source.accessToken, hubUrl: source.hubUrl });
}
