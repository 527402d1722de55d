/** The registry of model architectures, by GGUF name: adding one is its entry here. */
import { assert, EngineError } from '../errors';
import type { ArchitectureReading } from './architecture';
import type { Checkpoint } from './checkpoint';
import { readGgufDecoder } from './gguf-decoder';
import { ggufNames } from './gguf-names';
import type { ArchitectureTraits, TensorNames } from './traits';

export const architectures: readonly ArchitectureTraits[] = [
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
  // Phi-3.5-MoE (arXiv 2404.14219). transformers keeps the short factors at every length; files do not name the jitter.
  {
    name: 'phimoe',
    pairing: 'half',
    norm: 'layer',
    router: { scoring: 'sparsemixer', jitter: 0.01 },
    unused: ['rope_factors_long.weight'],
  },
  // arXiv 2508.10925: softmax over the chosen; every other layer slides, from the first on.
  {
    name: 'gpt-oss',
    pairing: 'half',
    router: { normalize: true },
    activation: { kind: 'clamped', alpha: 1.702, limit: 7 },
    slides: (layer) => layer % 2 === 0,
    truncatesYarn: false,
    names: { ffnNorm: 'blk.{i}.post_attention_norm.weight' },
  },
  // GLM-4.5 (arXiv 2508.06471).
  {
    name: 'glm4moe',
    pairing: 'half',
    qkNorm: 'head',
    router: { scoring: 'sigmoid', normalize: true, sumEpsilon: 1e-20 },
    names: { ffnNorm: 'blk.{i}.post_attention_norm.weight' },
  },
  // DeepSeek-V2 (arXiv 2405.04434) and V3 (arXiv 2412.19437): latent attention; the router's kind is in the file.
  {
    name: 'deepseek2',
    pairing: 'interleaved',
    hasYarnMagnitude: true,
    router: { sumEpsilon: 1e-20 },
  },
  // LFM2-MoE: short convolutions, and attention in some layers.
  {
    name: 'lfm2moe',
    pairing: 'half',
    qkNorm: 'head',
    router: { scoring: 'sigmoid', normalize: true, sumEpsilon: 1e-6 },
    names: { outputNorm: 'token_embd_norm.weight' },
  },
  // Hunyuan-A13B. `rope.freq_base` has its stretch already.
  { name: 'hunyuan-moe', pairing: 'half', qkNorm: 'head-after-rope', router: { normalize: true } },
  // ERNIE 4.5: chosen by a corrected score, weighed by the plain one.
  { name: 'ernie4_5-moe', pairing: 'interleaved', router: { normalize: true, sumFloor: 1e-12 } },
  // Of the research line: names of ours, since no converter to GGUF has any. hf-research.ts has the papers.
  { name: 'adamoe', pairing: 'half', router: { normalize: true } },
  { name: 'dynamic-moe', pairing: 'half' },
  { name: 'rmoe', pairing: 'half', router: { normalize: true } },
  { name: 'openmoe', pairing: 'half' },
  { name: 'rexmoe', pairing: 'half' },
  { name: 'coe', pairing: 'interleaved', hasYarnMagnitude: true, router: { sumEpsilon: 1e-20 } },
  { name: 'blockffn', pairing: 'half', router: { scoring: 'relu' } },
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
  const { router, ...own } = gguf.traits;
  return readGgufDecoder(gguf, { ...traits, ...own, router: { ...traits.router, ...router } });
}
