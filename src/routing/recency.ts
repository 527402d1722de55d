/**
 * Predictor: what was used lately is used again. Two exponentially decayed use rates per page, a fast one for the
 * sentence and a slow one for the conversation, which keeps the fast one from being sure of a few tokens.
 */
import { createState, openState, type Predictor } from './predictor';
import type { RoutingShape } from './token-routes';

/** A use counts half after this many tokens. */
export const recencyHalfWeightTokens = [16, 256] as const;
/** Share of each rate in the probability (docs/log.md, "a calibrated ensemble"). */
export const recencyShares = [0.9, 0.1] as const;

export function createRecency(shape: RoutingShape): Predictor {
  const { layers, experts, expertsPerToken } = shape;
  const pages = layers * experts;
  // [rate][layers, experts] f32: decayed uses per token, as if all experts had been used alike before the first one.
  let rates = recencyHalfWeightTokens.map(() => new Float32Array(pages).fill(expertsPerToken / experts));
  const keeps = recencyHalfWeightTokens.map((tokens) => 2 ** (-1 / tokens));
  let tokens = 0;

  return {
    name: 'recency',
    predict(_context, scores) {
      scores.fill(0);
      if (tokens === 0) return false;
      for (const [which, rate] of rates.entries()) {
        const share = recencyShares[which] as number;
        for (let page = 0; page < pages; page++)
          scores[page] = (scores[page] as number) + (rate[page] as number) * share;
      }
      return true;
    },
    predictBehind: () => 0,
    observe(_context, routes) {
      tokens++;
      for (const [which, rate] of rates.entries()) {
        const keep = keeps[which] as number;
        for (let page = 0; page < pages; page++) rate[page] = (rate[page] as number) * keep;
        for (let layer = 0; layer < layers; layer++) {
          const end = routes.getStart(layer + 1);
          for (let at = routes.getStart(layer); at < end; at++) {
            const page = layer * experts + (routes.ids[at] as number);
            rate[page] = (rate[page] as number) + 1 - keep;
          }
        }
      }
    },
    save() {
      const [fast, slow] = rates.map((rate) => rate.slice()) as [Float32Array, Float32Array];
      return createState('recency', shape, { fast, slow, tokens: Uint32Array.of(tokens) });
    },
    restore(state) {
      const arrays = openState(state, 'recency', shape);
      const restored = ['fast', 'slow'].map((name) => arrays.get(name, Float32Array, pages).slice());
      tokens = arrays.get('tokens', Uint32Array, 1)[0] as number;
      rates = restored;
    },
  };
}
