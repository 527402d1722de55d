/**
 * Installs a model whole: opens it, fetches what is missing, commits it. What fails or is aborted can be continued.
 */
import type { ByteSource } from '../checkpoint/byte-source';
import type { CheckpointFiles } from '../checkpoint/checkpoint-files';
import type { ModelManifest } from '../checkpoint/manifest';
import type { ModelStore } from './model-store';
import { type OpenModelOptions, openModel } from './open-model';

export interface InstallResult {
  readonly manifest: ModelManifest;
  /** False when the model was in the store already. */
  readonly installed: boolean;
}

/**
 * Installs the model that a GGUF file holds, unless the store has it.
 * @param input a lone file, or one with its neighbours, which a split file needs.
 * @throws EngineError `BAD_FILE`, `UNSUPPORTED`, `NETWORK`, `STORAGE_FULL`, `STORAGE`, `ABORTED`.
 */
export async function installModel(
  input: ByteSource | CheckpointFiles,
  store: ModelStore,
  options: OpenModelOptions = {},
): Promise<InstallResult> {
  const model = await openModel(input, store, options);
  try {
    return { manifest: await model.finish(options.signal), installed: model.isNew };
  } finally {
    await model.close();
  }
}
