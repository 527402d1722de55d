/**
 * From what a caller names as a model to its records: the source is asked first, and where it does not answer, what is
 * installed of it is used. Owns that choice; store/ reads.
 */
import { EngineError } from '../errors';
import { findInstalled, openInstalled } from '../store/installed-copy';
import type { ModelStore } from '../store/model-store';
import { type OpenModel, type OpenModelOptions, openModel } from '../store/open-model';
import type { LoadProgress, ModelSource } from './engine';
import { openFiles } from './open-files';

/** A source that is only asked whether it has changed is not waited for long. */
const IMPATIENT = { retryDelaysMs: [250], stallTimeoutMs: 2500 } as const;

/** @throws EngineError as `openFiles` and `openModel`; not `NETWORK` where the model is installed. */
export async function openSource(
  source: ModelSource,
  store: ModelStore | null,
  fetch: typeof globalThis.fetch | undefined,
  options: OpenModelOptions,
  onProgress: (progress: LoadProgress) => void,
): Promise<OpenModel> {
  const { signal, quantize, onWarning } = options;
  if (source.kind !== 'url' || !store) {
    return openModel(await openFiles(source, { fetch, signal }, onProgress), store, options);
  }
  const request = JSON.stringify([source.url, source.hubUrl ?? null, quantize ?? null]);
  const installed = await findInstalled(store, request);
  try {
    const files = await openFiles(source, { fetch, signal, ...(installed ? IMPATIENT : {}) }, onProgress);
    return await openModel(files, store, { ...options, request });
  } catch (error) {
    if (!installed || !(error instanceof EngineError) || error.code !== 'NETWORK') throw error;
    onWarning?.(`"${installed.name}" is installed and is used without asking whether it has changed: ${error.message}`);
    return openInstalled(store, installed, error, signal);
  }
}
