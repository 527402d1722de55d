/**
 * What `npm run perf` asks of the place where the engine runs, a page or this process: measurements as plain data.
 * Owns types only.
 */
import type { Calibration } from '../../src/engine/calibration.ts';
import type {
  DraftOptions,
  EvictionName,
  ExpertBudget,
  GenerateStats,
  PagingOptions,
  TokenLogprob,
} from '../../src/engine/engine.ts';
import type { StoreKind } from '../../src/store/model-store.ts';
import type { Grammar } from '../../src/text/grammar.ts';
import type { RandomShape } from './random-shapes.ts';

/** What is known once the model is installed. */
export interface BenchModel {
  readonly name: string;
  readonly layers: number;
  readonly moeLayers: number;
  readonly experts: number;
  /** A learned predictor's network comes with it, and can run here. */
  readonly hasLearned: boolean;
  /** Bytes of a page; the mean where layers differ. */
  readonly pageBytes: number;
  readonly adapter: string;
  /** The adapter runs on a CPU. */
  readonly isSoftware: boolean;
}

/** One load of the engine, and what runs on it. Every job begins with the same resident pages. */
export interface EngineJob {
  /** Absent: the model that the bench was made for. */
  readonly random?: RandomShape;
  readonly store: StoreKind;
  readonly expertBudget: ExpertBudget;
  /** Absent: the engine's default. */
  readonly hostCacheBytes?: number;
  readonly paging?: PagingOptions;
  /** Absent: the engine's default. */
  readonly draft?: DraftOptions;
  /** Absent: the engine's default. */
  readonly tokensPerSubmit?: number | 'auto';
  /** Absent: the engine's default. */
  readonly eviction?: EvictionName;
  /** Whether predictors begin with nothing, or with what comes with the model. A job never teaches the next one. */
  readonly predictors: 'cold' | 'shipped';
  /** Added to every read-back. */
  readonly readbackDelayMs?: number;
  /** The store gives no more than this. */
  readonly storeBytesPerSecond?: number;
}

/** Each prompt is a conversation of its own, one after another; none ends before `tokens`, but where its grammar does. */
export interface GenerationJob extends EngineJob {
  readonly prompts: readonly BenchPrompt[];
  readonly tokens: number;
}

/** A user's message, maybe with what its answer has to be; or so many tokens of running text. */
export type BenchPrompt =
  | { readonly text: string; readonly seed: number; readonly grammar?: Grammar }
  | { readonly promptTokens: number };

export interface GenerationSample {
  readonly loadMs: number;
  readonly answers: readonly {
    /** From the call to the first token. */
    readonly firstTokenMs: number;
    readonly stats: SampleStats;
    readonly tokenIds: readonly number[];
    readonly logprobs: readonly TokenLogprob[];
  }[];
}

/** What the tables are made from. */
export type SampleStats = Pick<
  GenerateStats,
  | 'promptTokens'
  | 'generatedTokens'
  | 'prefillMs'
  | 'decodeMs'
  | 'hitRate'
  | 'faultingLayers'
  | 'roundTrips'
  | 'layersExecuted'
  | 'uploadBytes'
  | 'draft'
  | 'learned'
>;

export interface FaultJob {
  readonly store: StoreKind;
  /** Where the missing page is: in host RAM, only in the store, or nowhere but behind a URL (in Node: in its file). */
  readonly from: 'ram' | 'store' | 'network';
  /** Whether the page is read into mapped GPU memory; of `store` only. */
  readonly staging: 'on' | 'off';
  /** Absent: the embedded model. */
  readonly random?: RandomShape;
  readonly trials: number;
}

export interface ReadJob {
  readonly store: StoreKind;
  /** Reads under way at a time. */
  readonly parallel: number;
}

/** A pass over 64 MiB in records of 4 MiB. */
export interface StreamJob {
  /**
   * `raw`: a file read by a sync access handle, without a store. `mapped`: the same straight into mapped staging memory, and a
   * copy on the GPU, where a store's records go by `writeBuffer`.
   */
  readonly from: StoreKind | 'raw' | 'mapped';
  /** Reads under way at a time. */
  readonly parallel: number;
  /** Whether each record is handed to the GPU, and the pass ends when that has them all. */
  readonly toGpu: boolean;
}

export interface ReadSample {
  readonly pages: number;
  readonly bytes: number;
  readonly elapsedMs: number;
}

/** Dispatches of a pass that are measured as one, their means: what they have to move, and compute. */
export interface KernelKind {
  readonly row: string;
  readonly bytes: number;
  readonly flops: number;
}

export interface KernelJob {
  readonly store: StoreKind;
  readonly random?: RandomShape;
  /** Tokens of the prompt whose kernels are measured; a token is decoded at 512, or as late as the context allows. */
  readonly promptTokens: number;
}

export interface KernelSession {
  /** The device's limits first. */
  readonly kinds: readonly KernelKind[];
  /** Else the clock, less what an empty submission takes. */
  readonly usesTimestamps: boolean;
}

/** One call at a time. */
export interface Bench {
  /** Installs the model, or one of random weights, in a store, where it is not. */
  install(store: StoreKind, random?: RandomShape): Promise<BenchModel>;
  /** So many tokens of running text, as `generate` feeds them. */
  getPrompt(store: StoreKind, promptTokens: number): Promise<{ readonly ids: number[]; readonly text: string }>;
  /** Puts an installed model on the GPU for `timeKernel`; one at a time. */
  openKernels(job: KernelJob): Promise<KernelSession>;
  /** Milliseconds of one dispatch of a kind of the session. */
  timeKernel(index: number): Promise<number>;
  closeKernels(): Promise<void>;
  generate(job: GenerationJob): Promise<GenerationSample>;
  /** What the engine measures when it loads. */
  calibrate(): Promise<Calibration>;
  /** Per trial: milliseconds from the known fault until the GPU has the page and has answered. */
  serveFaults(job: FaultJob): Promise<number[]>;
  readPages(job: ReadJob): Promise<ReadSample>;
  streamRecords(job: StreamJob): Promise<ReadSample>;
  /** How often the shadow behind a first fault names what the token then misses, by distance from the fault. */
  watchShadow(job: ShadowJob): Promise<ShadowCount[]>;
}

export interface ShadowJob {
  readonly expertBudget: ExpertBudget;
  readonly prompts: readonly BenchPrompt[];
  readonly tokens: number;
}

/** Sums over all first faults; index 0 is one layer behind the fault. */
export interface ShadowCount {
  /** Pages that the token used there and that were absent at the fault. */
  readonly misses: number;
  /** Of these, named by the shadow. */
  readonly named: number;
  /** Absent pages that the shadow named and the token did not use. */
  readonly falsePages: number;
}

/** Errors cross Playwright's bridge as data: it would keep no code. */
export type BenchOutcome =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly code: string; readonly message: string };

declare global {
  interface Window {
    /** Set by the page once its script has run. */
    webmoePerf?: (method: keyof Bench, args: readonly unknown[]) => Promise<BenchOutcome>;
  }
}
