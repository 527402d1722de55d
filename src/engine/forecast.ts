/**
 * Which pages a token may need: what predictors say before it, what runs ahead on the GPU behind a fault.
 * Owns the predictors and the thresholds. Holds no pages: the pager uploads what is named here, and a wrong guess costs
 * bytes, never a token.
 */
import type { ExpectedPage } from '../experts/pager';
import type { PathModel } from '../routing/learned';
import type { PredictorState, TokenContext } from '../routing/predictor';
import { createPredictor, type PredictorName } from '../routing/predictors';
import { type RoutingShape, TokenRoutes } from '../routing/token-routes';
import type { FaultRecord } from './pass-runner';

/**
 * A page is brought in ahead from this probability on. An upload that is not used costs its bytes and what it displaces; one
 * that is used spares a round trip. Replayed on unseen documents with half of the experts resident, 0.12 captured 0.77 of the
 * gap to perfect prefetch at 1.9 times the uploads of plain demand, 0.16 0.67 at 1.5 times (docs/log.md, "a calibrated
 * ensemble").
 */
const WANTED_PROBABILITY = 0.13;
/** At most this many pages a layer are wanted, as a multiple of the experts per token: a guard against what is not calibrated. */
const WANTED_PER_EXPERT = 2.5;
/** A resident page keeps its slot against less probable ones from this share of the above on. */
const KEPT_SHARE = 0.6;

export interface Forecast {
  readonly name: PredictorName;
  /** Whether the routers of the layers behind a fault are to be run for this forecast. */
  readonly looksAhead: boolean;
  /**
   * Tells which tokens run next, and waits a moment for what answers from elsewhere; never longer, and never failing.
   * @param position of the first of them
   */
  prepare(position: number, tokenIds: readonly number[]): Promise<void>;
  /** Pages of the token that comes next, most probable first. */
  getExpected(context: TokenContext): readonly ExpectedPage[];
  /** Pages of the layers behind a fault, nearest layer first. */
  getExpectedBehind(context: TokenContext, fault: FaultRecord): readonly ExpectedPage[];
  /** Tokens that `observe` was told of. */
  readonly learntTokens: number;
  /** Learns from a token that has run. `layers`: chosen experts of every MoE layer. */
  observe(context: TokenContext, layers: readonly ArrayLike<number>[]): void;
  save(): PredictorState | null;
  /** @throws EngineError `CORRUPT` */
  restore(state: PredictorState): void;
}

/**
 * How long a token waits for the learned predictor's answer, in milliseconds. It takes about one where nothing else runs;
 * an answer that comes later still counts behind a fault.
 */
const ANSWER_LIMIT_MS = 4;

/** @param pathModel for the learned predictors */
export function createForecast(name: PredictorName, shape: RoutingShape, pathModel?: PathModel): Forecast {
  const looksAhead = name === 'lookahead' || name === 'ensemble' || name === 'ensemble+learned';
  const predictor = createPredictor(name, shape, { looksAhead, pathModel });
  const scores = new Float32Array(shape.layers * shape.experts);
  let learntTokens = 0;
  const collect = (fromLayer: number): ExpectedPage[] => {
    const pages: (ExpectedPage & { score: number })[] = [];
    for (let at = fromLayer * shape.experts; at < scores.length; at++) {
      const score = scores[at] as number;
      if (score < WANTED_PROBABILITY * KEPT_SHARE) continue;
      const isWanted = score >= WANTED_PROBABILITY;
      pages.push({ moeLayer: Math.floor(at / shape.experts), expert: at % shape.experts, isWanted, score });
    }
    const wanted = new Uint16Array(shape.layers);
    return pages
      .sort((a, b) => b.score - a.score)
      .map((page) => {
        if (!page.isWanted) return page;
        const count = (wanted[page.moeLayer] as number) + 1;
        wanted[page.moeLayer] = count;
        return { ...page, isWanted: count <= WANTED_PER_EXPERT * shape.expertsPerToken };
      });
  };
  return {
    name,
    looksAhead,
    async prepare(position, tokenIds) {
      if (!pathModel) return;
      pathModel.push(position, tokenIds);
      // A chunk of the prompt is not forecast: its answers are for the tokens that come after it.
      if (tokenIds.length === 1) await pathModel.waitFor(position, ANSWER_LIMIT_MS);
    },
    getExpected(context) {
      predictor?.predict(context, scores);
      return predictor ? collect(0) : [];
    },
    getExpectedBehind(context, fault) {
      // Layers that ran in shadow are right nine times of ten: they go first, whatever a predictor says.
      const shadowed = predictor && fault.runAhead <= 1 ? [] : getRoutedPages(fault, shape);
      if (!predictor) return shadowed;
      predictor.predictBehind(context, getKnownRoutes(fault, shape), fault.moeLayer, scores);
      const getIndex = ({ moeLayer, expert }: ExpectedPage): number => moeLayer * shape.experts + expert;
      const named = new Set(shadowed.map(getIndex));
      return [...shadowed, ...collect(fault.moeLayer + 1).filter((page) => !named.has(getIndex(page)))];
    },
    get learntTokens() {
      return learntTokens;
    },
    observe(context, layers) {
      learntTokens++;
      predictor?.observe(context, TokenRoutes.fromLayers(layers));
    },
    save: () => predictor?.save() ?? null,
    restore: (state) => predictor?.restore(state),
  };
}

/** [layers, rows, k] as one array per layer; all rows of a layer together. */
export function splitLayers(routes: Uint32Array, layers: number): Uint32Array[] {
  const perLayer = routes.length / layers;
  return Array.from({ length: layers }, (_, layer) => routes.subarray(layer * perLayer, (layer + 1) * perLayer));
}

/** The exact routes, and behind them what the routers alone chose where they ran; the shadow's are taken as they are. */
function getKnownRoutes({ moeLayer, routes, runAhead }: FaultRecord, { layers }: RoutingShape): TokenRoutes {
  const byLayer = splitLayers(routes, layers);
  return TokenRoutes.fromLayers(runAhead === 1 ? byLayer : byLayer.map((ids, layer) => (layer > moeLayer ? [] : ids)));
}

/** Pages that the routers behind a fault chose, nearest layer first, each layer's in router order. */
function getRoutedPages({ moeLayer, routes, runAhead }: FaultRecord, { layers }: RoutingShape): ExpectedPage[] {
  if (runAhead === 0) return [];
  return splitLayers(routes, layers).flatMap((experts, layer) =>
    layer > moeLayer ? [...new Set(experts)].map((expert) => ({ moeLayer: layer, expert, isWanted: true })) : [],
  );
}
