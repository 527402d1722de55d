/**
 * What most `config.json` files share, in GGUF's keys: sizes, rotary embedding, windows. Owns the names of their fields, of
 * transformers 5 (`rope_parameters`) and before (`rope_theta`, `rope_scaling`); which model has what is in hf-models.ts.
 */
import { EngineError } from '../errors';
import type { GgufMetadata, MetadataScalar } from './gguf-metadata';
import type { ArchitectureTraits } from './traits';

/** Keys without the architecture's prefix; what is undefined is left out. */
export type HfKeys = Readonly<Record<string, MetadataScalar | readonly MetadataScalar[] | undefined>>;

export interface DecoderDefaults {
  readonly theta?: number;
  readonly epsilon?: string;
  /** The only `hidden_act`. */
  readonly activation?: string;
}

/** Keys that nearly all configurations share. */
export function getDecoderKeys(
  config: GgufMetadata,
  { theta = 10_000, epsilon = 'rms_norm_eps', activation: only = 'silu' }: DecoderDefaults = {},
): HfKeys {
  const activation = config.getString('hidden_act', only);
  if (activation !== only) refuse(config, 'hidden_act', activation, only);
  const heads = config.getInteger('num_attention_heads', { min: 1 });
  const rotary = getRopeNumber(config, 'partial_rotary_factor') ?? getNumber(config, 'partial_rotary_factor') ?? 1;
  return {
    block_count: config.getInteger('num_hidden_layers', { min: 1 }),
    context_length: config.getInteger('max_position_embeddings'),
    embedding_length: config.getInteger('hidden_size', { min: 1 }),
    vocab_size: config.getInteger('vocab_size', { min: 1 }),
    'attention.head_count': heads,
    'attention.head_count_kv': config.getInteger('num_key_value_heads', { default: heads }),
    'attention.layer_norm_rms_epsilon': config.getNumber(epsilon),
    'rope.freq_base': getRopeNumber(config, 'rope_theta') ?? getNumber(config, 'rope_theta') ?? theta,
    'rope.dimension_count': rotary === 1 ? undefined : Math.floor(getHeadDim(config) * rotary),
  };
}

/** Values per head. */
export function getHeadDim(config: GgufMetadata): number {
  const heads = config.getInteger('num_attention_heads', { min: 1 });
  return config.getInteger('head_dim', { min: 1, default: config.getInteger('hidden_size') / heads });
}

/** A field that may be absent. */
export function getNumber(config: GgufMetadata, key: string): number | undefined {
  return config.has(key) ? config.getNumber(key) : undefined;
}

/** The group of fields about the rotary embedding: transformers 5 has one for all models, before it only scaled ones had. */
function getRopeGroup(config: GgufMetadata): string | undefined {
  return ['rope_parameters', 'rope_scaling'].find((group) =>
    ['rope_type', 'type', 'rope_theta'].some((key) => config.has(`${group}.${key}`)),
  );
}

export function getRopeNumber(config: GgufMetadata, key: string): number | undefined {
  const group = getRopeGroup(config);
  return group === undefined ? undefined : getNumber(config, `${group}.${key}`);
}

/** @returns the kind's field and value; `default` where the embedding is not scaled. */
export function getRopeKind(config: GgufMetadata): { readonly key: string; readonly kind: string } {
  const group = getRopeGroup(config) ?? 'rope_scaling';
  const key = [`${group}.rope_type`, `${group}.type`].find((name) => config.has(name));
  return key === undefined ? { key: `${group}.rope_type`, kind: 'default' } : { key, kind: config.getString(key) };
}

/** Field of the rotary embedding that a kind needs. */
export function requireRopeNumber(config: GgufMetadata, key: string): number {
  return config.getNumber(`${getRopeGroup(config) ?? 'rope_parameters'}.${key}`);
}

export function requireRopeNumbers(config: GgufMetadata, key: string): readonly number[] {
  return config.getNumbers(`${getRopeGroup(config) ?? 'rope_parameters'}.${key}`, { min: 1e-6, max: 1e6 });
}

/**
 * Scaling of a kind that several models share.
 * @throws EngineError `UNSUPPORTED` for another kind
 */
export function getRopeScaling(config: GgufMetadata): HfKeys {
  const { key, kind } = getRopeKind(config);
  switch (kind) {
    case 'default':
      return {};
    case 'linear':
      return { 'rope.scaling.type': 'linear', 'rope.scaling.factor': requireRopeNumber(config, 'factor') };
    case 'yarn':
      return getYarn(config);
    default:
      return refuse(config, key, kind, 'default, linear, yarn');
  }
}

function getYarn(config: GgufMetadata): HfKeys {
  const factor = requireRopeNumber(config, 'factor');
  const magnitude = getRopeNumber(config, 'attention_factor');
  return {
    'rope.scaling.type': 'yarn',
    'rope.scaling.factor': factor,
    'rope.scaling.original_context_length':
      getRopeNumber(config, 'original_max_position_embeddings') ?? config.getInteger('max_position_embeddings'),
    'rope.scaling.yarn_beta_fast': getRopeNumber(config, 'beta_fast'),
    'rope.scaling.yarn_beta_slow': getRopeNumber(config, 'beta_slow'),
    // A file's is a factor on what YaRN's paper asks for.
    'rope.scaling.attn_factor': magnitude === undefined ? undefined : magnitude / (0.1 * Math.log(factor) + 1),
  };
}

/** DeepSeek's YaRN: two factors of mscale, on cosines and sines and on what the softmax sees. */
export function getLatentYarn(config: GgufMetadata): HfKeys {
  const keys = getYarnOrNone(config);
  if (keys === null) return {};
  const logFactor = Math.log(requireRopeNumber(config, 'factor'));
  const own = getRopeNumber(config, 'mscale') ?? 0;
  const all = getRopeNumber(config, 'mscale_all_dim') ?? 0;
  const magnitude = own && all ? (0.1 * own * logFactor + 1) / (0.1 * all * logFactor + 1) : 0.1 * logFactor + 1;
  return {
    ...keys,
    'rope.scaling.attn_factor': getRopeNumber(config, 'attention_factor') ?? magnitude,
    'rope.scaling.yarn_log_multiplier': 0.1 * all,
  };
}

function getYarnOrNone(config: GgufMetadata): HfKeys | null {
  const { key, kind } = getRopeKind(config);
  if (kind === 'default') return null;
  return kind === 'yarn' ? getYarn(config) : refuse(config, key, kind, 'default, yarn');
}

/** Whether YaRN's ramp is rounded; transformers rounds it unless told otherwise. */
export function getYarnTraits(config: GgufMetadata): Partial<ArchitectureTraits> {
  const group = getRopeGroup(config);
  return { truncatesYarn: group === undefined || config.getBool(`${group}.truncate`, true) };
}

/** A window that every layer has. */
export function getWindowKeys(config: GgufMetadata, isUsed = true): HfKeys {
  const window = isUsed ? getNumber(config, 'sliding_window') : undefined;
  return { 'attention.sliding_window': window };
}

/**
 * Which layers slide, by `layer_types`; without it as `fallback` says.
 * @throws EngineError `UNSUPPORTED` for a type of layer that `accepted` does not have
 */
export function getSlides(
  config: GgufMetadata,
  fallback: (layer: number) => boolean,
  accepted: readonly string[] = ['full_attention', 'sliding_attention'],
): (layer: number) => boolean {
  const types = getLayerTypes(config, accepted);
  return types === null ? fallback : (layer) => types[layer] === 'sliding_attention';
}

/** One per layer, or null where the configuration has none. */
export function getLayerTypes(config: GgufMetadata, accepted: readonly string[]): readonly string[] | null {
  if (!config.has('layer_types')) return null;
  const types = config.getStrings('layer_types');
  const odd = types.find((type) => !accepted.includes(type));
  if (odd !== undefined) refuse(config, 'layer_types', odd, accepted.join(', '));
  const layers = config.getInteger('num_hidden_layers');
  if (types.length === layers) return types;
  throw new EngineError(
    'BAD_FILE',
    `${config.sourceName}: "layer_types" names ${types.length} layers, "num_hidden_layers" is ${layers}`,
  );
}

/** A whole number, or a list that repeats one. */
export function getUniform(config: GgufMetadata, key: string): number {
  if (!Array.isArray(config.values.get(key))) return config.getInteger(key);
  const values = config.getNumbers(key);
  const other = values.find((value) => value !== values[0]);
  if (values[0] === undefined || other !== undefined) {
    refuse(
      config,
      key,
      `[${values.slice(0, 8).join(', ')}${values.length > 8 ? ', …' : ''}]`,
      'one value for all layers',
    );
  }
  return values[0];
}

export function refuse(config: GgufMetadata, key: string, value: string, accepted: string): never {
  throw new EngineError(
    'UNSUPPORTED',
    `${config.sourceName}: "${key}" is "${value.slice(0, 80)}"; accepted: ${accepted}`,
  );
}
