/**
 * Which pages a token may need: what predictors say before it, what runs ahead on the GPU behind a fault.
 * Owns the predictors and the thresholds. Holds no pages: the pager uploads what is named here, and a wrong guess costs
 * bytes, never a token.
 */
import type { ExpectedPage } from '../experts/pager';
import { listChosen } from '../kernels/router-topk';
import type { PathModel } from '../routing/learned';
import type { PredictorState, TokenContext } from '../routing/predictor';
import { createPredictor, type PredictorName } from '../routing/predictors';
import { type RoutingShape, TokenRoutes } from '../routing/token-routes';
import type { FaultRecord } from './pass';

/** At most this many pages a layer are wanted, as a multiple of the experts per token: a guard against what is not calibrated. */
const WANTED_PER_EXPERT = 2.5;
/** A resident page keeps its slot against less probable ones from this share of what a wanted page needs on. */
const KEPT_SHARE = 0.6;

/** Tokens whose routes the learned predictor was asked for, and how many of its answers were of use. All 0 without one. */
export interface AnswerCounts {
  asked: number;
  /** There before the token ran. */
  inTime: number;
  /** Missed the token's start and came before a fault of it, so that it told of the layers behind. */
  late: number;
}

export interface Forecast {
  readonly name: PredictorName;
  /** Whether the routers of the layers behind a fault are to be run for this forecast. */
  readonly looksAhead: boolean;
  /** Tells tokens of the conversation from `position` on; what was told of these positions before is void. */
  push(position: number, tokenIds: readonly number[]): void;
  /** Waits a moment for what answers about the token at `position` from elsewhere; never longer, and never failing. */
  wait(position: number): Promise<void>;
  /**
   * Pages of the token that comes next, most probable first.
   * @param wanted P(it is used) from which on a page is to be brought in
   */
  getExpected(context: TokenContext, wanted: number): readonly ExpectedPage[];
  /** Pages of the layers behind a fault: what ran in shadow, then the most probable first. */
  getExpectedBehind(context: TokenContext, fault: FaultRecord, wanted: number): readonly ExpectedPage[];
  /** Since the counts were last reset. */
  readonly answers: Readonly<AnswerCounts>;
  resetAnswers(): void;
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
  const answers: AnswerCounts = { asked: 0, inTime: 0, late: 0 };
  /** The latest token's answer is counted already. */
  let isCounted = true;
  const countAnswer = ({ position }: TokenContext, kind: 'inTime' | 'late'): void => {
    if (isCounted || !pathModel?.get(position)) return;
    isCounted = true;
    answers[kind]++;
  };
  const collect = (fromLayer: number, least: number): ExpectedPage[] => {
    const pages: (ExpectedPage & { probability: number })[] = [];
    for (let at = fromLayer * shape.experts; at < scores.length; at++) {
      const probability = scores[at] as number;
      if (probability < least * KEPT_SHARE) continue;
      const isWanted = probability >= least;
      pages.push({ moeLayer: Math.floor(at / shape.experts), expert: at % shape.experts, isWanted, probability });
    }
    const wanted = new Uint16Array(shape.layers);
    return pages
      .sort((a, b) => b.probability - a.probability)
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
    push: (position, tokenIds) => pathModel?.push(position, tokenIds),
    wait: async (position) => pathModel?.waitFor(position, ANSWER_LIMIT_MS),
    getExpected(context, wanted) {
      if (pathModel) {
        answers.asked++;
        isCounted = false;
        countAnswer(context, 'inTime');
      }
      predictor?.predict(context, scores);
      return predictor ? collect(0, wanted) : [];
    },
    getExpectedBehind(context, fault, wanted) {
      // Layers that ran in shadow are right nine times of ten: they go first, whatever a predictor says.
      const shadowed = predictor && fault.runAhead <= 1 ? [] : getRoutedPages(fault, shape);
      if (!predictor) return shadowed;
      countAnswer(context, 'late');
      predictor.predictBehind(context, getKnownRoutes(fault, shape), fault.moeLayer, scores);
      const getIndex = ({ moeLayer, expert }: ExpectedPage): number => moeLayer * shape.experts + expert;
      const named = new Set(shadowed.map(getIndex));
      return [...shadowed, ...collect(fault.moeLayer + 1, wanted).filter((page) => !named.has(getIndex(page)))];
    },
    answers,
    resetAnswers: () => void Object.assign(answers, { asked: 0, inTime: 0, late: 0 }),
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
  const byLayer = splitLayers(routes, layers).map(listChosen);
  return TokenRoutes.fromLayers(runAhead === 1 ? byLayer : byLayer.map((ids, layer) => (layer > moeLayer ? [] : ids)));
}

/** Pages that the routers behind a fault chose, nearest layer first, each layer's in router order. */
function getRoutedPages({ moeLayer, routes, runAhead }: FaultRecord, { layers }: RoutingShape): ExpectedPage[] {
  if (runAhead === 0) return [];
  return splitLayers(routes, layers).flatMap((experts, layer) =>
    layer > moeLayer
      ? [...new Set(listChosen(experts))].map((expert) => ({ moeLayer: layer, expert, isWanted: true }))
      : [],
  );
}
