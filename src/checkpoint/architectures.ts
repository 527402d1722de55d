/** The registry of model architectures, by GGUF name: adding one is its entry here. */
import { assert, EngineError } from '../errors';
import type { ArchitectureReading, TensorNames } from './architecture';
import type { Checkpoint } from './checkpoint';
import { type GgufTraits, readGgufDecoder } from './gguf-decoder';
import { ggufNames } from './gguf-names';

const architectures: readonly GgufTraits[] = [
  // arXiv 2409.02060. The converter does not permute q and k, and leaves out `expert_weights_norm`, which is false.
  { name: 'olmoe', pairing: 'half', qkNorm: 'full' },
  // Mixtral (arXiv 2401.04088) is llama with experts. Converters reorder rows of q and k for interleaved pairs.
  { name: 'llama', pairing: 'interleaved', router: { normalize: true } },
  // arXiv 2407.10671: no renormalisation, a shared expert times its own sigmoid.
  { name: 'qwen2moe', pairing: 'half' },
  // arXiv 2505.09388. The converter leaves out `expert_weights_norm`, which is true.
  { name: 'qwen3moe', pairing: 'half', qkNorm: 'head', router: { normalize: true } },
  // Granite 3 and its shared variant: a softmax over the chosen, which is one over all, normalised.
  { name: 'granitemoe', pairing: 'interleaved', router: { normalize: true } },
];

/** GGUF's tensor names of an architecture that webmoe runs. */
export function getTensorNames(name: string): TensorNames {
  const traits = architectures.find((candidate) => candidate.name === name);
  assert(traits, `architecture ${name} is registered`);
  return { ...ggufNames, ...traits.names };
}

/**
 * Reads a file's hyperparameters and finds its tensors' roles.
 * @throws EngineError `UNSUPPORTED` for another architecture, or a variant that webmoe does not run; `BAD_FILE`.
 */
export function readArchitecture(gguf: Checkpoint): ArchitectureReading {
  const name = gguf.metadata.getString('general.architecture');
  const traits = architectures.find((candidate) => candidate.name === name);
  if (!traits) {
    const supported = architectures.map((candidate) => candidate.name).join(', ');
    throw new EngineError(
      'UNSUPPORTED',
      `${gguf.sourceName}: architecture "${name.slice(0, 80)}" is not supported; supported: ${supported}`,
    );
  }
  return readGgufDecoder(gguf, traits);
}
