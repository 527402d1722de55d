/**
 * The Engine interface: what a loaded model can do, in process and over the worker alike.
 * Owns types only; implemented by engine/local-engine.ts and client/remote-engine.ts.
 */
import type { QuantizedType } from '../checkpoint/formats/quantize';
import type { QuantizationReport } from '../checkpoint/manifest';
import type { EvictionName } from '../experts/eviction-policies';
import type { KvChoice, KvType } from '../kernels/kv-type';
import type { ForcedTuning, Tuning, TuningSetting } from '../kernels/tuning';
import type { KernelOptions, TrialTime } from '../kernels/variant';
import type { PredictorName } from '../routing/predictors';
import type { StoreChoice } from '../store/model-store';
import type { Grammar } from '../text/grammar';
import type { ToolFamily } from '../text/tool-family';
import type { GenerateStats } from './generate-stats';
import type { MemoryEvent } from './memory-event';
import type { ChatMessage, ToolCall, ToolDefinition } from './messages';
import type { ModelSource } from './model-source';

export type { ChatMessage, GenerateStats, MemoryEvent, ModelSource, ToolCall, ToolDefinition };

/** How many experts may be on the GPU: a share of each layer's experts, or bytes for all slots together. */
export type ExpertBudget = { readonly percent: number } | { readonly bytes: number };

/** Whether pages are read straight into mapped GPU memory. */
export type StagingChoice = 'auto' | 'on' | 'off';

/** How a model is loaded: where it is kept, and how much of the GPU it gets. Each has a default. */
export interface LoadOptions {
  /**
   * What the matrices of a folder with safetensors files become when it is installed: `q8_0`; or `q4_0`, which is for the
   * experts, the other matrices becoming Q8_0. Default: they stay as they are. Lossy: `LoadedModel.quantization` has the error.
   */
  readonly quantize?: QuantizedType;
  /**
   * Default `indexeddb` where it exists. `opfs` reads pages about as fast as the disk does, and is there in workers; `auto`
   * measures the two once, remembers the faster one, and is `memory` where there is neither.
   */
  readonly store?: StoreChoice;
  /** Default 100 %. */
  readonly expertBudget?: ExpertBudget;
  /** Upper bound in bytes for everything on the GPU; the expert slots take what the rest leaves. */
  readonly gpuBudgetBytes?: number;
  /** Tokens; default and maximum: the model's own. */
  readonly contextLength?: number;
  /**
   * What keys and values are stored as. Default `f32`. `f16` takes half of the memory, `q8` 9/32 of it; both round, and the
   * result is as exact as before whatever the budget: docs/numerics.md has their errors. `auto` is `f16` where the adapter
   * has shader-f16, elsewhere `f32`; `LoadedModel.variants` names which.
   */
  readonly kvType?: KvChoice;
  /** Ask for no optional GPU feature and no raised limit: what every WebGPU has. */
  readonly defaultLimitsOnly?: boolean;
  /**
   * Forces a form of the kernels; refused (`UNSUPPORTED`) where the adapter lacks it. Default: what the adapter's features
   * allow. Forms differ in the last bits of results; `LoadedModel.variants` names the one in use.
   */
  readonly kernels?: KernelOptions;
  /** Pages kept in host RAM between the store and the GPU, in bytes. Default 256 MiB. */
  readonly hostCacheBytes?: number;
  /**
   * Whether pages that host RAM would not keep are read from the store straight into mapped GPU memory: four pages more in
   * the plan, a copy less for each fault. `opfs` and `memory` stores can. Touches speed only. Default `auto`: where it was
   * measured to be faster, once for each adapter, with a model in OPFS that is not all on the GPU. `GenerateStats.tiers` counts.
   */
  readonly staging?: StagingChoice;
  /**
   * Most bytes of host RAM, and most conversations, that hold what the KV cache had of earlier prompts, so that conversations
   * that take turns do not compute theirs again. Default 256 MiB and 16; 0: only what the KV cache holds itself.
   */
  readonly prefixCacheBytes?: number;
  readonly prefixCacheCount?: number;
  /** Which page makes room for another. Touches speed only. Default `rates`. */
  readonly eviction?: EvictionName;
  /** Files that forecast this model's routes. Without them predictors begin with nothing and learn. */
  readonly forecast?: ForecastFiles;
  /**
   * Most bytes of this model that the store may hold; what is beyond is fetched again each time it is needed. Default: as
   * many as the browser lets it.
   */
  readonly storeBudgetBytes?: number;
  /**
   * Whether to start when the resident tensors are there, and fetch experts when they are needed while the download goes on
   * behind. Default: when the download would take more than a few seconds longer.
   */
  readonly startEarly?: boolean;
  /**
   * Whether a model that is a file of the user's is copied into the store. Default: only where a `store` is named; otherwise
   * its pages are read from the file.
   */
  readonly copy?: boolean;
}

/** Files beside a model that forecast its routes. They touch speed only. */
export interface ForecastFiles {
  /** What the ensemble learnt from other conversations, as `npm run teach` writes it: a first visit starts warm. */
  readonly taughtUrl?: string;
  /**
   * The learned predictor's network, as tools/train/learned.py writes it; read when it is asked for. Default: beside a model
   * that comes from a URL, `.routes.onnx` in the place of its extension.
   */
  readonly learnedUrl?: string;
}

/** How far an install has come, in bytes of the source. */
export interface InstallState {
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** What arrived in the last seconds; null or absent while nothing is known. */
  readonly bytesPerSecond?: number | null;
  /** Until everything is there, at that rate. */
  readonly remainingMs?: number | null;
}

/** One step of a load: bytes of the source installed, bytes of weights on the GPU, kernels compiled. */
export type LoadProgress =
  | ({ readonly phase: 'install' } & InstallState)
  | { readonly phase: 'weights'; readonly doneBytes: number; readonly totalBytes: number }
  | { readonly phase: 'compile'; readonly done: number; readonly total: number }
  /** Something the user should know and that did not stop the load. */
  | { readonly phase: 'warning'; readonly message: string };

/** What is loaded: the shape of the model, and what it got. */
export interface LoadedModel {
  readonly modelId: string;
  readonly name: string;
  readonly architecture: string;
  readonly contextLength: number;
  readonly layers: number;
  /** Layers with experts. */
  readonly moeLayers: number;
  /** Which layers these are, ascending. */
  readonly moeLayerIndices: readonly number[];
  readonly experts: number;
  readonly expertsPerToken: number;
  readonly slotsPerLayer: number;
  readonly plannedGpuBytes: number;
  readonly hasChatTemplate: boolean;
  /** How the model writes calls of tools, and whether its template lists the tools that there are. */
  readonly tools: { readonly family: ToolFamily; readonly inTemplate: boolean };
  /** Human-readable adapter description. */
  readonly adapter: string;
  /**
   * Forms in use: `kernels` how workgroups add up, and by how many lanes; `kv` what keys and values are stored as; `tuning`
   * how work is spread, which changes no bit, and `tuningFrom` who chose it: `default`, `options`, `cache` or `trial`.
   */
  readonly variants: Readonly<Record<string, string>>;
  /** Whether this load installs it: false when the store had it already, and for files that are read in place. */
  readonly installed: boolean;
  /** Of a quantised model: by kind of tensor its type and relative error; else null. */
  readonly quantization: QuantizationReport | null;
  /** Whether every expert can be had without a network; otherwise the download goes on behind. */
  readonly isLocal: boolean;
}

/** How a token is chosen from the logits. The same options and seed choose the same tokens. */
export interface SamplingOptions {
  /** 0 is greedy. Default 0. */
  readonly temperature?: number;
  /** Keep the k most likely; 0 or absent: all. */
  readonly topK?: number;
  /** Keep the smallest set with at least this probability; absent or 1: all. */
  readonly topP?: number;
  /** Keep tokens with at least this share of the most likely one's probability; absent or 0: all. */
  readonly minP?: number;
  /** 32-bit unsigned. Default 0. */
  readonly seed?: number;
  /** Taken from a token's logit once for every time it was generated, -2 to 2. Default 0. */
  readonly frequencyPenalty?: number;
  /** Taken from a token's logit when it was generated at least once, -2 to 2. Default 0. */
  readonly presencePenalty?: number;
  /** Added to the logits of these token ids, -100 to 100 each; at most 1024 ids. */
  readonly logitBias?: Readonly<Record<number, number>>;
}

export type {
  EvictionName,
  ForcedTuning,
  KernelOptions,
  KvChoice,
  KvType,
  PredictorName,
  TrialTime,
  Tuning,
  TuningSetting,
};

/** How pages are brought in. Touches speed only: tokens and logits are bit-identical whatever is chosen here. */
export interface PagingOptions {
  /** Who forecasts a token's pages. Default `ensemble`; `learned` and `ensemble+learned` need `LoadOptions.forecast`'s network. */
  readonly predictor?: PredictorName;
  /** Layers per submission; the layer count or more: a token in one. Default: what the measured costs make cheapest. */
  readonly segmentLayers?: number;
  /** Whether the rest of a token runs in shadow behind a fault, to name the pages it will miss. Default: when it pays. */
  readonly runAhead?: boolean;
  /** The naive baseline: wait for the routes of every layer before running its experts. */
  readonly readBackEveryLayer?: boolean;
}

/**
 * `self`: the experts that are resident guess; `ngram`: the text so far does; `auto`: whichever of these, or none, is measured to
 * be the fastest.
 */
export type DraftKind = 'off' | 'self' | 'ngram' | 'auto';

/**
 * Guessing tokens and checking several in one exact pass. Touches speed only: tokens and logits are bit-identical. Under a
 * grammar the text that it leaves no choice in is guessed too (`ngram`), and the resident experts guess one token at most.
 */
export interface DraftOptions {
  /** Default `auto`. */
  readonly kind?: DraftKind;
  /** Most tokens guessed for a pass, 1 to 8. Default 4. */
  readonly tokens?: number;
}

/** Exactly one of `messages`, `prompt` and `tokenIds`. */
export interface GenerateRequest {
  /** Rendered by the model's chat template. */
  readonly messages?: readonly ChatMessage[];
  /** With `messages`: what the template lists as callable. */
  readonly tools?: readonly ToolDefinition[];
  /** With `messages`: how the answer begins; special tokens in it are parsed. Not part of the generated text. */
  readonly answerStart?: string;
  /** Bare text: BOS only where the tokenizer says so, special tokens are not parsed. */
  readonly prompt?: string;
  /** The whole prompt, nothing added. */
  readonly tokenIds?: readonly number[];
  /** Default 128. */
  readonly maxTokens?: number;
  readonly sampling?: SamplingOptions;
  /** Generation ends before any of these texts. */
  readonly stop?: readonly string[];
  readonly ignoreEos?: boolean;
  /** What the whole text has to be; it ends where the grammar does. Not with `ignoreEos`. */
  readonly grammar?: Grammar;
  /** Special tokens that are generated show up in the text as they are written, the end token excepted. */
  readonly showMarks?: boolean;
  /** Report log-probabilities, with this many most likely tokens each (0: only the chosen one). */
  readonly topLogprobs?: number;
  readonly paging?: PagingOptions;
  readonly draft?: DraftOptions;
  /** Report the routes of every token that is fed, as `routes` events. */
  readonly trace?: boolean;
  /** Report which pages are resident after every token, as `residency` events. */
  readonly residency?: boolean;
  /** What is kept of the prompt's beginning, in the KV cache or beside it, is not computed again; same bits. Default true; never with `trace`. */
  readonly reusePrefix?: boolean;
  /**
   * Most tokens by one submission, 1 to 8, up to the first expert that is missing; one where anything is guessed, or done to logits.
   * Default `auto`: as many as are measured to pay and come within a tenth of a second.
   */
  readonly tokensPerSubmit?: number | 'auto';
}

/** A chosen token with its log-probability, and the most likely ones beside it. */
export interface TokenLogprob {
  readonly tokenId: number;
  /** Natural log over the whole vocabulary, before temperature and filters. */
  readonly logprob: number;
  readonly top: ReadonlyArray<readonly [tokenId: number, logprob: number]>;
}

/** A token with its log-probability, and the bytes of its text: a token may be part of a character. */
export interface TokenChance {
  readonly tokenId: number;
  readonly logprob: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export interface StreamedLogprob extends TokenChance {
  readonly top: readonly TokenChance[];
}

/** The experts that one input token was routed to; docs/routing-trace.md has the format. */
export interface TraceEntry {
  readonly token: number;
  readonly phase: 'prefill' | 'decode';
  /** Ids by MoE layer, in router order. */
  readonly routes: readonly (readonly number[])[];
}

/** A whole generation, as the `done` event has it. */
export interface GenerateResult {
  readonly promptTokenIds: readonly number[];
  /** Generated ids, the end token included. */
  readonly tokenIds: readonly number[];
  /** Without the end token. */
  readonly text: string;
  readonly logprobs: readonly TokenLogprob[];
  readonly finishReason: 'stop' | 'length';
  readonly stats: GenerateStats;
}

/** What `generate` yields, in order: `prefill` for every chunk of the prompt, a `token` for each that is generated, `done` last. */
export type GenerateEvent =
  /** Something the user should know and that changes no token. */
  | { readonly type: 'warning'; readonly message: string }
  /** Prompt tokens that the KV cache has so far; `reused` of them it had from an earlier prompt. */
  | { readonly type: 'prefill'; readonly done: number; readonly total: number; readonly reused: number }
  /** Only with `trace`: every input token once, in order, whatever faults there were. */
  | { readonly type: 'routes'; readonly entries: readonly TraceEntry[] }
  /** `text` is what can be shown now: whole UTF-8 characters, held back where a stop text may begin. */
  | {
      readonly type: 'token';
      readonly tokenId: number;
      readonly text: string;
      readonly residentShare: number;
      readonly hitRate: number;
      /** Only with `topLogprobs`. */
      readonly logprob?: StreamedLogprob;
    }
  /** After each token while parts of the model are missing: how far the download behind it has come. */
  | ({ readonly type: 'install' } & InstallState)
  /** Only with `residency`: [moeLayers, experts]; 0 absent, 1 resident, 2 resident and used by the latest token. */
  | { readonly type: 'residency'; readonly pages: Uint8Array }
  | { readonly type: 'done'; readonly result: GenerateResult };

/** Exactly one of `messages`, `prompt` and `tokenIds`; see GenerateRequest. Messages are rendered without an answer's start. */
export type ScoreRequest = Pick<GenerateRequest, 'messages' | 'tools' | 'prompt' | 'tokenIds'>;

/** Loss of a text under the model. `exp(nll / tokens)` is the perplexity. */
export interface ScoreResult {
  /** Tokens that were scored: all but the first of each window of the context. */
  readonly tokens: number;
  /** Sum of their negative natural log-probabilities, in nats. */
  readonly nll: number;
}

/** What a changed budget came to. */
export interface ExpertBudgetChange {
  readonly slotsPerLayer: number;
  readonly plannedGpuBytes: number;
  /** What the user should know, such as that the GPU had no room and the last size was kept. */
  readonly warning: string | null;
}

/** A model in a store. */
export interface InstalledModel {
  readonly modelId: string;
  readonly name: string;
  readonly sourceBytes: number;
  /** Share of its records that are in the store, 0 to 1; below 1 its install has not ended, and goes on at the next load. */
  readonly storedShare: number;
}

/** A model and what can be done with it, in process or over a worker. One call at a time: a second one is refused with `BUSY`, `setExpertBudget` excepted. */
export interface Engine {
  /** What is loaded now. */
  readonly model: LoadedModel | null;
  /**
   * Installs the model where it is not, and makes it ready. Replaces a loaded model.
   * @throws EngineError
   */
  load(
    source: ModelSource,
    options?: LoadOptions,
    onProgress?: (progress: LoadProgress) => void,
    signal?: AbortSignal,
  ): Promise<LoadedModel>;
  /** Streams one generation; breaking out of the loop or aborting stops it within one token. One at a time. */
  generate(request: GenerateRequest, signal?: AbortSignal): AsyncIterable<GenerateEvent>;
  /**
   * Teacher-forced loss of a text, in consecutive windows of the context.
   * @throws EngineError
   */
  score(request: ScoreRequest, signal?: AbortSignal): Promise<ScoreResult>;
  /**
   * Changes how many experts may be on the GPU. While a generation runs, it takes effect between two of its passes and
   * changes none of its tokens.
   * @throws EngineError `BUDGET_TOO_SMALL`, `BAD_ARGUMENT`, `NOT_LOADED`
   */
  setExpertBudget(budget: ExpertBudget): Promise<ExpertBudgetChange>;
  /**
   * Calls `listener` after every change of what is on the GPU, also between calls; tokens are told of by `generate`
   * (`residency`). Over a worker the news may come shortly behind the end of the call that made it.
   * @returns what ends it
   */
  watchMemory(listener: (event: MemoryEvent) => void): () => void;
  /** Models in a store, also those whose install has not ended. */
  listModels(store: StoreChoice): Promise<InstalledModel[]>;
  /**
   * Takes a model and what was learnt of it out of a store.
   * @throws EngineError `BUSY` while it is loaded, `STORAGE`
   */
  removeModel(store: StoreChoice, modelId: string): Promise<void>;
  /** Frees the GPU and forgets the model; what is installed stays. */
  unload(): Promise<void>;
}
