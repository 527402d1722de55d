/** The registry of model architectures, by GGUF name: adding one is its file and its line here. */
import { EngineError } from '../errors';
import type { Architecture, ArchitectureReading } from './architecture';
import type { Checkpoint } from './checkpoint';
import { olmoe } from './olmoe';

const architectures: readonly Architecture[] = [olmoe];

/**
 * Reads a file's hyperparameters and finds its tensors' roles.
 * @throws EngineError `UNSUPPORTED` for another architecture, or a variant that webmoe does not run; `BAD_FILE`.
 */
export function readArchitecture(gguf: Checkpoint): ArchitectureReading {
  const name = gguf.metadata.getString('general.architecture');
  const architecture = architectures.find((candidate) => candidate.name === name);
  if (!architecture) {
    const supported = architectures.map((candidate) => candidate.name).join(', ');
    throw new EngineError(
      'UNSUPPORTED',
      `${gguf.sourceName}: architecture "${name.slice(0, 80)}" is not supported; supported: ${supported}`,
    );
  }
  return architecture.read(gguf);
}
