/**
 * From a GGUF file's keys and tensor shapes to ModelConfig, for every decoder of attention and experts.
 * Owns the keys' names and limits. What an architecture's name alone says comes as traits, from architectures.ts.
 * Tensor shapes win over keys that say the same thing.
 */
import { EngineError } from '../errors';
import { type ArchitectureReading, collectTensors, TensorReader } from './architecture';
import type { Checkpoint } from './checkpoint';
import { readLatent } from './gguf-latent';
import { ggufNames } from './gguf-names';
import { readGgufRope } from './gguf-rope';
import {
  type AttentionConfig,
  type ConvolutionConfig,
  type Mixer,
  type ModelConfig,
  type MoeConfig,
  type NormConfig,
  plainRouter,
  type RouterConfig,
} from './model-config';
import type { ArchitectureTraits, TensorNames } from './traits';

const MAX_LAYERS = 1024;
const MAX_HEADS = 1024;
const MAX_HIDDEN_SIZE = 65_536;
const MAX_VOCAB_SIZE = 1_000_000;
const MAX_EXPERTS = 512;
const MAX_TAPS = 64;
const MAX_CONTEXT_LENGTH = 2 ** 24;
/** `expert_gating_func` of llama.cpp; 3 is a softmax over the chosen, which is one over all, normalised. */
const GATING = { 1: 'softmax', 2: 'sigmoid', 3: 'softmax' } as const;

/**
 * Reads a file of an architecture.
 * @throws EngineError `BAD_FILE`, `UNSUPPORTED`
 */
export function readGgufDecoder(gguf: Checkpoint, traits: ArchitectureTraits): ArchitectureReading {
  const file = new DecoderFile(gguf, traits);
  return collectTensors(file.readConfig(), file.names, file.tensors);
}

class DecoderFile {
  readonly names: TensorNames;
  readonly tensors: TensorReader;
  readonly #layers: number;

  constructor(
    private readonly gguf: Checkpoint,
    private readonly traits: ArchitectureTraits,
  ) {
    this.names = { ...ggufNames, ...traits.names };
    this.tensors = new TensorReader(gguf);
    const blocks = this.#integer('block_count', { min: 1, max: MAX_LAYERS });
    // Layers behind the last one guess a token further on (multi-token prediction); webmoe does not run them.
    const extra = this.#integer('nextn_predict_layers', { min: 0, max: blocks - 1, default: 0 });
    this.#layers = blocks - extra;
    this.tensors.skip((name) => Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? -1) >= this.#layers && extra > 0);
    this.tensors.skip((name) => traits.unused?.includes(name) ?? false);
  }

  readConfig(): ModelConfig {
    this.#refuseVariants();
    const [vocabSize, hiddenSize] = this.tensors.get(this.names.embedding, 2).shape as [number, number];
    this.#checkRange('vocabulary size (rows of token_embd.weight)', vocabSize, 1, MAX_VOCAB_SIZE);
    this.#checkRange('hidden size (columns of token_embd.weight)', hiddenSize, 32, MAX_HIDDEN_SIZE);
    this.#checkDeclared('vocab_size', vocabSize);
    this.#checkDeclared('embedding_length', hiddenSize);
    const layers = Array.from({ length: this.#layers }, (_, layer) => layer);
    const attention = this.#readAttention(this.#getAttentionLayer(layers));
    const moeLayers = layers.filter((layer) => !this.#has('mlpDown', layer));
    const { names } = this;
    return {
      architecture: this.traits.name,
      layers: this.#layers,
      hiddenSize,
      vocabSize,
      contextLength: this.#integer('context_length', { min: 1, max: MAX_CONTEXT_LENGTH }),
      norm: this.#readNorm(),
      embeddingScale: this.#scale('embedding_scale'),
      residualScale: this.#scale('residual_scale'),
      // a divisor in the file
      logitScale: 1 / this.#scale('logit_scale'),
      tiedHead: !this.tensors.has(names.head),
      headBias: this.tensors.has(names.headBias),
      mixers: layers.map((layer) => this.#getMixer(layer, attention)),
      attention,
      convolution: this.#readConvolution(layers, hiddenSize),
      moe: this.#readMoe(moeLayers),
      moeLayers,
      denseWidth: this.#readDenseWidth(layers.find((layer) => !moeLayers.includes(layer))),
    };
  }

  #readNorm(): NormConfig {
    const kind = this.traits.norm ?? 'rms';
    const key = kind === 'rms' ? 'attention.layer_norm_rms_epsilon' : 'attention.layer_norm_epsilon';
    const other = kind === 'rms' ? 'attention.layer_norm_epsilon' : 'attention.layer_norm_rms_epsilon';
    const present = this.gguf.metadata.has(`${this.traits.name}.${key}`) ? key : other;
    return { kind, epsilon: this.#number(this.#hasKey(present) ? present : key, { min: 1e-12, max: 0.1 }) };
  }

  #getMixer(layer: number, { window }: AttentionConfig): Mixer {
    if (this.traits.hasMixer?.(layer) === false) return 'none';
    if (this.#has('convIn', layer)) return 'convolution';
    return window && this.traits.slides?.(layer) ? 'sliding' : 'full';
  }

  /** First layer that has attention: what its tensors say holds for all that have it. */
  #getAttentionLayer(layers: readonly number[]): number {
    const layer = layers.find((candidate) => !this.#has('convIn', candidate));
    return layer ?? this.#fail(`every layer has a convolution ("${this.names.convIn}"); attention is needed`);
  }

  #readConvolution(layers: readonly number[], hiddenSize: number): ConvolutionConfig | null {
    const own = layers.filter((layer) => this.#has('convIn', layer));
    const [first] = own;
    if (first === undefined) return null;
    const taps = this.tensors.get(this.#name('convTaps', first)).shape.at(-1) as number;
    this.#checkRange(`taps (${this.#name('convTaps', first)})`, taps, 1, MAX_TAPS);
    const declared = this.#integer('shortconv.l_cache', { default: taps });
    if (declared !== taps) this.#unsupported('shortconv.l_cache', declared, `the columns of its kernel, ${taps}`);
    for (const layer of own) {
      const name = this.#name('convTaps', layer);
      // [hidden, taps], or with a dimension of 1 between
      const entry = this.tensors.get(name);
      const isFit = entry.shape.length <= 3 && entry.shape[0] === hiddenSize && entry.shape.at(-1) === taps;
      if (!isFit)
        this.#fail(`tensor "${name}" has shape [${entry.shape.join(', ')}]; [${hiddenSize}, ${taps}] is needed`);
      this.tensors.replace(name, { [name]: { ...entry, shape: [hiddenSize * taps] } });
    }
    return { taps, hasBias: this.#has('convBias', first) };
  }

  /** Key/value heads of the layers that have attention; files with other layers have a list, with 0 for those. */
  #readKvHeads(heads: number): number {
    const key = `${this.traits.name}.attention.head_count_kv`;
    if (!Array.isArray(this.gguf.metadata.values.get(key))) {
      return this.#integer('attention.head_count_kv', { min: 1, max: heads, default: heads });
    }
    const counts = new Set(this.gguf.metadata.getNumbers(key, { min: 0, max: heads }).filter((count) => count > 0));
    const [count] = counts;
    if (count === undefined || counts.size > 1) {
      this.#unsupported('attention.head_count_kv', [...counts].join(', '), 'one number for all layers with attention');
    }
    return count;
  }

  #readAttention(layer: number): AttentionConfig {
    const heads = this.#integer('attention.head_count', { min: 1, max: MAX_HEADS });
    if (this.#has('kvDown', layer)) return this.#readLatentAttention(heads);
    const kvHeads = this.#readKvHeads(heads);
    if (heads % kvHeads !== 0) {
      this.#fail(`${heads} attention heads over ${kvHeads} key/value heads; a multiple is needed`);
    }
    const qWidth = this.tensors.get(this.#name('qProj', layer), 2).shape[0] as number;
    const headDim = qWidth / heads;
    if (!Number.isInteger(headDim) || headDim % 4 !== 0) {
      this.#fail(
        `${this.#name('qProj', layer)} has ${qWidth} rows for ${heads} heads; a multiple of 4 per head is needed`,
      );
    }
    for (const key of ['attention.key_length', 'attention.value_length']) {
      const value = this.#integer(key, { default: headDim });
      if (value !== headDim) this.#unsupported(key, value, `the head size, ${headDim}`);
    }
    const clip = this.#number('attention.clamp_kqv', { min: 0, default: 0 });
    const scale = this.#number('attention.scale', { min: 0, default: 0 });
    const window = this.#integer('attention.sliding_window', { min: 0, max: MAX_CONTEXT_LENGTH, default: 0 });
    return {
      heads,
      kvHeads,
      headDim,
      scale: scale > 0 ? scale : 1 / Math.sqrt(headDim),
      qkNorm: this.#has('qNorm', layer) ? (this.traits.qkNorm ?? 'none') : 'none',
      rope: readGgufRope(this.gguf, this.traits.name, this.traits.pairing, headDim, {
        ...this.traits,
        hasFactors: this.tensors.has(this.names.ropeFactors),
      }),
      clipQkv: clip > 0 ? clip : null,
      window: window > 0 && this.traits.slides ? window : null,
      qkvBias: this.#has('qBias', layer),
      outputBias: this.#has('oBias', layer),
      hasSinks: this.#has('sinks', layer),
      latent: null,
    };
  }

  #readLatentAttention(heads: number): AttentionConfig {
    const layers = Array.from({ length: this.#layers }, (_, layer) => layer).filter(
      (layer) => this.traits.hasMixer?.(layer) ?? true,
    );
    const { latent, ropeDims } = readLatent(this.gguf.sourceName, this.tensors, this.names, heads, layers);
    const rope = readGgufRope(this.gguf, this.traits.name, this.traits.pairing, ropeDims, this.traits);
    // 0.1 * mscale_all_dim of the configuration: how much longer contexts sharpen the softmax.
    const sharpening = this.#number('rope.scaling.yarn_log_multiplier', { min: 0, max: 10, default: 0 });
    const factor = rope.scaling?.kind === 'yarn' ? 1 + sharpening * Math.log(rope.scaling.factor) : 1;
    return {
      heads,
      kvHeads: 1,
      headDim: latent.rank + ropeDims,
      scale: factor ** 2 / Math.sqrt(latent.plainDim + ropeDims),
      qkNorm: 'none',
      rope,
      clipQkv: null,
      window: null,
      qkvBias: false,
      outputBias: this.#has('oBias', 0),
      hasSinks: false,
      latent,
    };
  }

  #readMoe(moeLayers: readonly number[]): MoeConfig {
    const [layer] = moeLayers;
    if (layer === undefined) this.#fail(`every layer has a dense MLP ("${this.names.mlpDown}"); experts are needed`);
    const down = this.tensors.get(this.#name('downProj', layer), 3);
    const [own, , expertWidth] = down.shape as [number, number, number];
    this.#checkRange(`expert width (${down.name})`, expertWidth, 32, MAX_HIDDEN_SIZE);
    const declared = this.#integer('expert_count', { default: own });
    if (declared !== own) {
      this.#fail(`"${this.traits.name}.expert_count" is ${declared}; ${down.name} has ${own} experts`);
    }
    const rounds = this.#readRounds(moeLayers.length);
    const layersPerGroup =
      rounds?.count ?? this.#integer('expert_group_layers', { min: 1, max: moeLayers.length, default: 1 });
    if (moeLayers.length % layersPerGroup !== 0) {
      const count = `${moeLayers.length}, the layers with experts`;
      this.#unsupported('expert_group_layers', layersPerGroup, `divisors of ${count}`);
    }
    const experts = rounds ? own : own * layersPerGroup;
    this.#checkRange(`experts (${down.name})`, experts, 1, MAX_EXPERTS);
    const sharedName = this.#name('sharedDown', layer);
    const sharedWidth = this.tensors.has(sharedName) ? (this.tensors.get(sharedName, 2).shape[1] as number) : 0;
    return {
      experts,
      rounds,
      layersPerGroup,
      expertsPerToken: this.#integer('expert_used_count', { min: 1, max: experts }),
      expertWidth,
      router: this.#readRouter(layer, experts),
      activation: this.traits.activation ?? { kind: 'silu' },
      isGated: this.#has('gateProj', layer) || this.#has('gateUpProj', layer),
      hasFactor: this.#has('factorProj', layer),
      expertBias: this.#has('downBias', layer),
      shared: sharedWidth > 0 ? { width: sharedWidth, isGated: this.#has('sharedScale', layer) } : null,
    };
  }

  #readRounds(moeLayers: number): MoeConfig['rounds'] {
    const count = this.#integer('expert_rounds', { min: 0, max: moeLayers, default: 0 });
    const hasOwnRouters = this.gguf.metadata.getBool(`${this.traits.name}.expert_round_routers`, false);
    return count > 0 ? { count, hasOwnRouters } : null;
  }

  #readRouter(layer: number, experts: number): RouterConfig {
    const base = { ...plainRouter, ...this.traits.router };
    const gating = this.#integer('expert_gating_func', { default: 0 });
    const scoring = gating === 0 ? base.scoring : GATING[gating as keyof typeof GATING];
    if (!scoring) this.#unsupported('expert_gating_func', gating, '1 and 3 (softmax), 2 (sigmoid)');
    if (scoring === 'sparsemixer') {
      const chosen = this.#integer('expert_used_count', { min: 1, max: experts });
      if (chosen !== 2) this.#unsupported('expert_used_count', chosen, '2 (sparsemixer)');
    }
    const topP = this.#number('expert_top_p', { min: 0, max: 1, default: 0 });
    const weightsScale = this.#number('expert_weights_scale', { default: 0 });
    const count = this.#integer('expert_group_count', { min: 0, max: experts, default: 0 });
    const used = this.#integer('expert_group_used_count', { min: 0, max: Math.max(count, 1), default: count });
    if (count > 1 && experts % count !== 0) {
      this.#fail(
        `${experts} experts in ${count} groups ("${this.traits.name}.expert_group_count"); a multiple is needed`,
      );
    }
    return {
      ...base,
      scoring,
      logitBias: this.#has('routerBias', layer),
      choiceBias: this.#has('choiceBias', layer),
      groups:
        count > 1 && used > 0 && used < count
          ? { count, used, rank: scoring === 'softmax' ? 'best' : 'two-best' }
          : null,
      normalize: gating === 3 || this.gguf.metadata.getBool(`${this.traits.name}.expert_weights_norm`, base.normalize),
      // Converters write 0 for "not used".
      scale: weightsScale === 0 ? base.scale : weightsScale,
      nullExperts: this.#countRows('nullRouter', layer, 'expert_null_count', MAX_EXPERTS) ?? 0,
      stateWidth: this.#countRows('routerInput', layer, 'router_state_length', MAX_HIDDEN_SIZE),
      topP: topP === 0 ? null : topP,
    };
  }

  /** Rows of a tensor that a model may lack, and that a key may say again. */
  #countRows(role: keyof TensorNames, layer: number, key: string, most: number): number | null {
    if (!this.#has(role, layer)) return null;
    const { name, shape } = this.tensors.get(this.#name(role, layer), 2);
    const [count] = shape as [number, number];
    this.#checkRange(`rows of ${name}`, count, 1, most);
    const declared = this.#integer(key, { default: count });
    if (declared !== count) this.#fail(`"${this.traits.name}.${key}" is ${declared}; ${name} has ${count} rows`);
    return count;
  }

  /** A key that says what the embedding's shape says. */
  #checkDeclared(key: string, found: number): void {
    const declared = this.#integer(key, { default: found });
    if (declared === found) return;
    const { name, shape } = this.tensors.get(this.names.embedding, 2);
    this.#fail(`"${this.traits.name}.${key}" is ${declared}; ${name} has shape [${shape.join(', ')}]`);
  }

  #readDenseWidth(layer: number | undefined): number | null {
    if (layer === undefined) return null;
    const down = this.tensors.get(this.#name('mlpDown', layer), 2);
    return down.shape[1] as number;
  }

  /** Keys that would change the computation, with the only value that is run. */
  #refuseVariants(): void {
    const variants: readonly (readonly [key: string, only: number, meaning: string])[] = [
      ['attn_logit_softcapping', 0, 'no soft cap'],
      ['final_logit_softcapping', 0, 'no soft cap'],
      ['router_logit_softcapping', 0, 'no soft cap'],
    ];
    for (const [key, only, meaning] of variants) {
      const value = this.#number(key, { default: only });
      if (value !== only) this.#unsupported(key, value, `${only} (${meaning})`);
    }
  }

  #name(role: keyof TensorNames, layer: number): string {
    return this.names[role].replace('{i}', String(layer));
  }

  #has(role: keyof TensorNames, layer: number): boolean {
    return this.tensors.has(this.#name(role, layer));
  }

  #hasKey(key: string): boolean {
    return this.gguf.metadata.has(`${this.traits.name}.${key}`);
  }

  #integer(key: string, range: Parameters<Checkpoint['metadata']['getInteger']>[1]): number {
    return this.gguf.metadata.getInteger(`${this.traits.name}.${key}`, range);
  }

  #number(key: string, range: Parameters<Checkpoint['metadata']['getNumber']>[1]): number {
    return this.gguf.metadata.getNumber(`${this.traits.name}.${key}`, range);
  }

  /** A multiplier; 0 and absence mean 1. */
  #scale(key: string): number {
    return this.#number(key, { min: 0, max: 1e6, default: 1 }) || 1;
  }

  #checkRange(what: string, value: number, min: number, max: number): void {
    if (value < min || value > max) this.#fail(`${what}: ${value}; ${min} to ${max} is possible`);
  }

  #fail(message: string): never {
    throw new EngineError('BAD_FILE', `${this.gguf.sourceName}: ${message}`);
  }

  #unsupported(key: string, value: number | string, accepted: string): never {
    throw new EngineError(
      'UNSUPPORTED',
      `${this.gguf.sourceName}: "${this.traits.name}.${key}" is ${value}; accepted: ${accepted}`,
    );
  }
}
