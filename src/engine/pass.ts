/** What a pass is asked for and what it gives: shared by all that cut, run and learn from passes. */
import type { ExpectedPage } from '../experts/pager';
import type { PrefetchCosts } from '../experts/prefetch-cost';
import type { UniformWord } from '../gpu/uniforms';
import type { LogitChanges } from '../sampling/logit-changes';

export interface PassRequest {
  /** At most the state's rows. */
  readonly tokenIds: readonly number[];
  /** So many more tokens are drafted by the GPU and fed behind the one in `tokenIds`; absent: none. Every row is sampled. */
  readonly draftTokens?: number;
  /** No row behind one of these tokens belongs to the text. Absent: there are none. */
  readonly endIds?: ReadonlySet<number>;
  /** Position of the first token. */
  readonly position: number;
  /** How many of the last rows get logits; 0 for a prefill chunk that is not the last. */
  readonly logitRows: number;
  /** Words of the sampling uniform: then a token is sampled from every logits row. */
  readonly sampling: readonly UniformWord[] | null;
  /**
   * What is done to a row's logits before it is sampled from, by the guesses that lie between the first token and the row;
   * absent: nothing ever. Guesses that cannot follow each other may get any answer: nothing behind them is part of the text.
   */
  readonly getLogitChanges?: ((guesses: readonly number[]) => Promise<LogitChanges | null>) | undefined;
  /** Bring the logits to the CPU. */
  readonly readLogits: boolean;
  /**
   * The tokens are a chunk of known text: enough of them are computed in tiles. Else always row by row, the tokens behind the
   * first are guesses, and the result says how many of them hold.
   */
  readonly isChunk: boolean;
  /** The tokens are the end of a chunk of the prompt of so many, whose form they take, and may be kept; absent: neither. */
  readonly chunkRows?: number;
  /** Most tokens to be fed by the submission, the given one and those sampled behind it, up to the first page that is missing. */
  readonly tokensPerSubmit?: number;
}

/** How a pass is cut and what runs behind a fault. Touches speed only, never a result. */
export interface PassPlan {
  /** Layers per submission; the layer count or more: the whole pass in one. */
  readonly segmentLayers: number;
  /** 0: nothing runs behind a fault. n: see RUN_AHEAD in shaders/lib/control.wgsl. */
  readonly runAhead: number;
  /** What reading pages before they are needed is weighed by; absent: of the pages below only those in host RAM are uploaded. */
  readonly costs?: PrefetchCosts;
  /**
   * Pages that the layers behind a fault may need.
   * @param draftRoutes [drafted tokens, moeLayers, expertsPerToken]: what the draft of rows 0, 1, … chose; empty without one.
   */
  getExpected(fault: FaultRecord, draftRoutes: Uint32Array): readonly ExpectedPage[];
}

/** What is known when a pass has faulted. */
export interface FaultRecord {
  /** The MoE layer that misses pages. */
  readonly moeLayer: number;
  readonly rows: number;
  /** [moeLayers, rows, expertsPerToken]: exact up to `moeLayer`; behind it what ran ahead chose, if anything did. */
  readonly routes: Uint32Array;
  readonly runAhead: number;
}

export interface PassResult {
  /** Tokens that were fed, drafted ones included; one per row. */
  readonly tokenIds: ArrayLike<number>;
  /** Rows that belong to the text; in prefill all of them. What lies behind them in the KV cache is overwritten later. */
  readonly acceptedRows: number;
  /** Sampled ids, one per logits row; empty without sampling. */
  readonly sampledIds: Uint32Array;
  /** [logitRows, vocab] f32, when asked for. */
  readonly logits: Float32Array | null;
  /** [moeLayers, rows, expertsPerToken]: chosen experts in router order. */
  readonly routes: Uint32Array;
}

export interface PassCounters {
  /** Submissions that were waited for. */
  roundTrips: number;
  submits: number;
  /** Counted by the GPU: layers whose experts were combined, shadows left out. */
  layersExecuted: number;
  /** Tokens that a submission had dispatched and did not come to. */
  unreachedTokens: number;
}
