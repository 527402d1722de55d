/** What an entry of the registry of `model_type`s is, and the keys that many share. Knows no model. */
import type { GgufMetadata } from './gguf-metadata';
import { getDecoderKeys, getLatentYarn, type HfKeys, refuse } from './hf-config';
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

/** Groups of experts that a router chooses from, as in DeepSeek's line. */
export function getGroupKeys(config: GgufMetadata): HfKeys {
  return {
    ...getExpertKeys(config, ['n_routed_experts', 'num_experts'], 'num_experts_per_tok'),
    expert_group_count: config.getInteger('n_group', { default: 1 }),
    expert_group_used_count: config.getInteger('topk_group', { default: 1 }),
    expert_weights_scale: config.getNumber('routed_scaling_factor', { default: 1 }),
  };
}

/** DeepSeek-V2's keys, the norm of its weights left out. */
export function getDeepseekKeys(config: GgufMetadata): HfKeys {
  const method = config.getString('topk_method', 'greedy');
  const isGrouped = method === 'group_limited_greedy';
  if (!isGrouped && method !== 'greedy') refuse(config, 'topk_method', method, 'greedy, group_limited_greedy');
  const keys = { ...getDecoderKeys(config), ...getGroupKeys(config), ...getLatentYarn(config), expert_gating_func: 1 };
  return isGrouped ? keys : { ...keys, expert_group_count: 1, expert_group_used_count: 1 };
}

/** Number of experts, and how many a token chooses. */
export function getExpertKeys(config: GgufMetadata, counts: readonly string[], chosen: string): HfKeys {
  const key = counts.find((name) => config.has(name)) ?? (counts[0] as string);
  return { expert_count: config.getInteger(key), expert_used_count: config.getInteger(chosen) };
}
