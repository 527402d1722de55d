/** Reads a checkpoint's directory, whatever its format: the one place that tells the formats apart. */
import { EngineError } from '../errors';
import type { Checkpoint } from './checkpoint';
import type { CheckpointFiles } from './checkpoint-files';
import type { QuantizedType } from './formats/quantize';
import { readGguf } from './gguf';
import { readHfCheckpoint } from './hf-checkpoint';

export interface ReadOptions {
  /** What F32, F16 and BF16 matrices of a safetensors checkpoint become; absent: they stay as they are. */
  readonly quantize?: QuantizedType | undefined;
}

/** @throws EngineError `BAD_FILE`, `UNSUPPORTED`, `BAD_ARGUMENT`, and what the files throw. */
export async function readCheckpoint(
  files: CheckpointFiles,
  { quantize }: ReadOptions = {},
  signal?: AbortSignal,
): Promise<Checkpoint> {
  if (files.ggufPath === null) return readHfCheckpoint(files, quantize ?? null, signal);
  if (quantize !== undefined) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `${files.name} is a GGUF file, which is installed as it is; "${quantize}" is for folders with safetensors files`,
    );
  }
  return readGguf(files, files.ggufPath, signal);
}
