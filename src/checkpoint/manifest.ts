/**
 * What an installed model consists of: the record that a store keeps per model and that the engine loads from.
 * Plain data (structured-cloneable, JSON-safe); built by checkpoint/, written by store/, read by engine/.
 */
import type { ModelConfig, WeightType } from './model-config';

/** A matrix in kernel layout inside a record or page: planes one behind the other, see formats/. */
export interface PackedMatrix {
  readonly type: WeightType;
  readonly rows: number;
  /** Columns; a multiple of 32. */
  readonly cols: number;
  /** Byte offset inside its record; a multiple of 16. */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** The matrices of a page, in its order. */
export const PAGE_PARTS = ['gateProj', 'upProj', 'factorProj', 'downProj', 'gateBias', 'upBias', 'downBias'] as const;
export type PagePart = (typeof PAGE_PARTS)[number];

/** One page = one expert of one page group: gate (where it has one), up and down projection, contiguous. The same for all experts of a group. */
export interface PageLayout {
  readonly gateProj: PackedMatrix | null; // [expertWidth, hiddenSize]
  readonly upProj: PackedMatrix; // [expertWidth, hiddenSize]
  readonly factorProj: PackedMatrix | null; // [expertWidth, hiddenSize]
  readonly downProj: PackedMatrix; // [hiddenSize, expertWidth]
  /** Vectors in f32; null where experts have no biases. */
  readonly gateBias: PackedMatrix | null; // [expertWidth]
  readonly upBias: PackedMatrix | null; // [expertWidth]
  readonly downBias: PackedMatrix | null; // [hiddenSize]
  /** Size of a page; a multiple of 16. */
  readonly pageBytes: number;
}

/** Roles of the tensors that always live on the GPU; resident-tensors.ts has their shapes. */
export type ResidentRole =
  | 'embedding'
  | 'ropeFactors'
  | 'attnNorm'
  | 'attnNormBias'
  | 'qProj'
  | 'kProj'
  | 'vProj'
  | 'qBias'
  | 'kBias'
  | 'vBias'
  | 'qNorm'
  | 'kNorm'
  | 'sinks'
  // latent attention: `qProj` is behind `queryDown`, where there is one
  | 'queryDown'
  | 'queryNorm'
  | 'kvDown'
  | 'kvNorm'
  | 'keyUp'
  | 'valueUp'
  // a layer with a convolution instead of attention
  | 'convIn'
  | 'convInBias'
  | 'convTaps'
  | 'convBias'
  | 'convOut'
  | 'convOutBias'
  | 'oProj'
  | 'oBias'
  | 'ffnNorm'
  | 'ffnNormBias'
  | 'router'
  // a recurrent router: one GRU for all layers, its matrices and biases of reset, update and new state joined
  | 'cellInput'
  | 'cellState'
  | 'cellInputBias'
  | 'cellStateBias'
  | 'routerInput'
  // AdaMoE's null experts, behind the others
  | 'nullRouter'
  | 'routerBias'
  | 'choiceBias'
  // BlockFFN's norm of the scores
  | 'scoreNorm'
  // the MLP of a layer without experts
  | 'mlpGate'
  | 'mlpUp'
  | 'mlpFactor'
  | 'mlpDown'
  // the shared expert of a layer with them
  | 'sharedGate'
  | 'sharedUp'
  | 'sharedDown'
  | 'sharedScale'
  | 'outputNorm'
  | 'outputNormBias'
  | 'head' // absent when tied: the embedding is the head
  | 'headBias';

export interface ResidentTensor {
  readonly role: ResidentRole;
  /** Layer index, or null for tensors outside the layers. */
  readonly layer: number | null;
  /** Key of its record in the store. */
  readonly key: string;
  readonly matrix: PackedMatrix; // vectors have rows 1, and zeros up to a multiple of 4 columns; offsetBytes is 0
}

/** Part of a tokenizer.json. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** How a tokenizer.json prepares and splits text, in its own words. */
export interface TokenizerRules {
  readonly normalizer: JsonObject | null;
  readonly preTokenizer: JsonObject | null;
  /** A word that is a token is taken whole, without merging. */
  readonly ignoreMerges: boolean;
  /** Several unknown characters in a row become one unknown token. */
  readonly fuseUnknown: boolean;
}

/** By kind of tensor: what it became, and the root mean square of the change over that of the weights. */
export type QuantizationReport = Readonly<Record<string, { readonly type: WeightType; readonly relativeRms: number }>>;

/** Tokenizer as found in the checkpoint, in the file's own terms; text/ builds a tokenizer from it. */
export interface TokenizerData {
  /** `tokenizer.ggml.model`: "gpt2" (byte-level BPE) or "llama" (SentencePiece). */
  readonly model: string;
  /** `tokenizer.ggml.pre`, when present. */
  readonly pre: string | null;
  readonly tokens: readonly string[];
  readonly scores: readonly number[] | null;
  /** GGUF token types: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte. */
  readonly tokenTypes: readonly number[] | null;
  readonly merges: readonly string[] | null;
  readonly bosId: number | null;
  /** Every token that ends a generation (eos, eot, eom), without duplicates. */
  readonly endIds: readonly number[];
  readonly unknownId: number | null;
  readonly addBos: boolean;
  readonly addSpacePrefix: boolean;
  readonly chatTemplate: string | null;
  /** Where the checkpoint has a tokenizer.json: instead of what `pre` and `addSpacePrefix` say. */
  readonly rules?: TokenizerRules;
}

export interface ModelManifest {
  /** Version of this format; a store with another one is reinstalled. */
  readonly format: 4;
  /** Content identity: digest of the file's header, its size and samples of its weights. */
  readonly modelId: string;
  /** For people: `general.name` or the file name. */
  readonly name: string;
  readonly sourceBytes: number;
  readonly config: ModelConfig;
  readonly tokenizer: TokenizerData;
  readonly resident: readonly ResidentTensor[];
  /** By page group: one or more neighbours in `config.moeLayers`, see `MoeConfig.layersPerGroup`. */
  readonly pageLayouts: readonly PageLayout[];
  /** SHA-256 (hex) by record key, of every resident tensor and page. */
  readonly digests: Readonly<Record<string, string>>;
  /** Of a model that was quantised when it was installed; over what the last, uninterrupted stretch of that did. */
  readonly quantization?: QuantizationReport;
}

/** Store key of a page. Where every MoE layer has its own experts, `group` counts these layers. */
export function getPageKey(group: number, expert: number): string {
  return `page/${group}/${expert}`;
}

/** Store key of a resident tensor. */
export function getTensorKey(role: ResidentRole, layer: number | null): string {
  return layer === null ? `tensor/${role}` : `tensor/${layer}/${role}`;
}
