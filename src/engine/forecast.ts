/**
 * Which pages a token may need: what predictors say before it, what runs ahead on the GPU behind a fault.
 * Owns the predictors and the thresholds. Holds no pages: the pager uploads what is named here, and a wrong guess costs
 * bytes, never a token.
 */
import type { ExpectedPage } from '../experts/pager';
import { createAffinity } from '../routing/affinity';
import { createEnsemble } from '../routing/ensemble';
import type { Predictor, PredictorState, TokenContext } from '../routing/predictor';
import { createRecency } from '../routing/recency';
import { type RoutingShape, TokenRoutes } from '../routing/token-routes';
import { createTokenTable } from '../routing/token-table';
import type { PredictorName } from './engine';
import type { FaultRecord } from './pass-runner';

/**
 * A page is brought in ahead from this probability on. An upload that is not used costs its bytes and what it displaces; one
 * that is used spares a round trip. In simulation 0.16 gave 1.8 round trips a token at 1.6 times the uploads of plain demand,
 * 0.2 gave 2.0 at 1.5 times, 0.12 1.7 at 1.8 times (docs/log.md, "paging policy").
 */
const WANTED_PROBABILITY = 0.16;
/**
 * At most this many pages a layer are wanted, as a multiple of the experts per token: a predictor that has seen little is
 * sure of too much. In replays of the default model six pages a layer of four captured 0.70 of the gap to perfect prefetch at
 * 1.9 times the uploads of plain demand, four 0.56 at 1.5 times (docs/log.md, "pages per prediction").
 */
const WANTED_PER_EXPERT = 1.5;
/** A resident page keeps its slot against less probable ones from this share of the above on. */
const KEPT_SHARE = 0.6;
/**
 * Routers that run on a residual stream from layers before name a wrong page for three right ones: their word counts where
 * the predictor finds the page half as probable as it would have to alone.
 */
const SECONDED_SHARE = 0.5;

export interface Forecast {
  readonly name: PredictorName;
  /** Whether the routers of the layers behind a fault are to be run for this forecast. */
  readonly looksAhead: boolean;
  /** Pages of the token that comes next, most probable first. */
  getExpected(context: TokenContext): readonly ExpectedPage[];
  /** Pages of the layers behind a fault, nearest layer first. */
  getExpectedBehind(context: TokenContext, fault: FaultRecord): readonly ExpectedPage[];
  /** Learns from a token that has run. `layers`: chosen experts of every MoE layer. */
  observe(context: TokenContext, layers: readonly ArrayLike<number>[]): void;
  save(): PredictorState | null;
  /** @throws EngineError `CORRUPT` */
  restore(state: PredictorState): void;
}

export function createForecast(name: PredictorName, shape: RoutingShape): Forecast {
  const predictor = createPredictor(name, shape);
  const looksAhead = name === 'lookahead' || name === 'ensemble';
  const scores = new Float32Array(shape.layers * shape.experts);
  /** @param seconded pages that the GPU named, as indices into scores. */
  const collect = (fromLayer: number, seconded: ReadonlySet<number>): ExpectedPage[] => {
    const pages: (ExpectedPage & { score: number })[] = [];
    for (let at = fromLayer * shape.experts; at < scores.length; at++) {
      const score = scores[at] as number;
      if (score < WANTED_PROBABILITY * SECONDED_SHARE) continue;
      const isWanted = score >= WANTED_PROBABILITY || seconded.has(at);
      if (!isWanted && score < WANTED_PROBABILITY * KEPT_SHARE) continue;
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
    getExpected(context) {
      if (!predictor) return [];
      predictor.predict(context, scores);
      return collect(0, new Set());
    },
    getExpectedBehind(context, fault) {
      const routed = getRoutedPages(fault, shape);
      if (!predictor) return routed;
      const routes = TokenRoutes.fromLayers(splitLayers(fault.routes, shape.layers));
      predictor.predictBehind(context, routes, fault.moeLayer, scores);
      const getIndex = ({ moeLayer, expert }: ExpectedPage): number => moeLayer * shape.experts + expert;
      const named = new Set(routed.map(getIndex));
      // Layers that ran in shadow are right nine times of ten: they go first, whatever the predictor says.
      if (fault.runAhead > 1)
        return [...routed, ...collect(fault.moeLayer + 1, named).filter((p) => !named.has(getIndex(p)))];
      return collect(fault.moeLayer + 1, named);
    },
    observe(context, layers) {
      predictor?.observe(context, TokenRoutes.fromLayers(layers));
    },
    save: () => predictor?.save() ?? null,
    restore: (state) => predictor?.restore(state),
  };
}

function createPredictor(name: PredictorName, shape: RoutingShape): Predictor | null {
  switch (name) {
    case 'none':
    case 'lookahead':
      return null;
    case 'recency':
      return createRecency(shape);
    case 'token':
      return createTokenTable(shape);
    case 'affinity':
      return createAffinity(shape);
    case 'ensemble':
      return createEnsemble(shape, [createTokenTable(shape), createAffinity(shape), createRecency(shape)]);
  }
}

/** [layers, rows, k] as one array per layer; all rows of a layer together. */
export function splitLayers(routes: Uint32Array, layers: number): Uint32Array[] {
  const perLayer = routes.length / layers;
  return Array.from({ length: layers }, (_, layer) => routes.subarray(layer * perLayer, (layer + 1) * perLayer));
}

/** Pages that the routers behind a fault chose, nearest layer first, each layer's in router order. */
function getRoutedPages({ moeLayer, routes, runAhead }: FaultRecord, { layers }: RoutingShape): ExpectedPage[] {
  if (runAhead === 0) return [];
  return splitLayers(routes, layers).flatMap((experts, layer) =>
    layer > moeLayer ? [...new Set(experts)].map((expert) => ({ moeLayer: layer, expert, isWanted: true })) : [],
  );
}
