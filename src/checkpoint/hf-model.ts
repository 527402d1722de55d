/** What an entry of the registry of `model_type`s is, and the keys that many share. Knows no model. */
import type { GgufMetadata } from './gguf-metadata';
import type { HfKeys } from './hf-config';
import type { HfLayout, HfTensors } from './hf-tensors';
import type { ArchitectureTraits } from './traits';

export interface HfModel {
  /** `model_type`. */
  readonly modelType: string;
  /** Where several models have a type: whether it is this one. */
  isMeant?(config: GgufMetadata): boolean;
  /** The GGUF name of the architecture. */
  readonly architecture: string;
  /** @throws EngineError `BAD_FILE`, `UNSUPPORTED` */
  getKeys(config: GgufMetadata): HfKeys;
  /** What the configuration says of the architecture's traits, and what converters to GGUF change. */
  getTraits?(config: GgufMetadata): Partial<ArchitectureTraits>;
  readonly names: HfTensors['names'];
  readonly layouts?: readonly HfLayout[];
  /** Layer of a tensor where a file's layer is several of ours; default: the file's. */
  getLayer?(config: GgufMetadata, layer: number, name: string): number;
  getVectors?(config: GgufMetadata): HfTensors['vectors'];
  /** Tensors that are known, and not used. */
  isSkipped?(name: string, config: GgufMetadata): boolean;
}

/** Number of experts, and how many a token chooses. */
export function getExpertKeys(config: GgufMetadata, counts: readonly string[], chosen: string): HfKeys {
  const key = counts.find((name) => config.has(name)) ?? (counts[0] as string);
  return { expert_count: config.getInteger(key), expert_used_count: config.getInteger(chosen) };
}
