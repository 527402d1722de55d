/**
 * The predictors of a replay by name. `oracle` exists here only: it looks the answer up.
 */
import { createState, type Predictor } from '../predictor';
import { getRoutes, type PackedTrace } from './packed-trace';

/** `lookahead` runs on the GPU, and a trace has no hidden states for it. */
export const predictorNames = ['none', 'recency', 'token', 'affinity', 'ensemble', 'oracle'] as const;
export type PredictorName = (typeof predictorNames)[number];

/** Names exactly what the trace's tokens, one after the other, use. */
export function createOracle(trace: PackedTrace): Predictor {
  const { layers, experts } = trace.header;
  let token = 0;
  return {
    name: 'oracle',
    predict(_context, scores) {
      scores.fill(0);
      const routes = getRoutes(trace, token);
      for (let layer = 0; layer < layers; layer++) {
        for (const expert of routes.getLayer(layer)) scores[layer * experts + expert] = 1;
      }
      return true;
    },
    predictBehind: () => 0,
    observe() {
      token++;
    },
    save: () => createState('oracle', trace.header, {}),
    restore() {},
  };
}
