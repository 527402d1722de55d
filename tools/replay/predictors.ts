/**
 * The predictors of a replay by name. `oracle` exists here only: it looks the answer up.
 */
import { createAffinity } from '../../src/routing/affinity.ts';
import { createEnsemble } from '../../src/routing/ensemble.ts';
import { createState, type Predictor } from '../../src/routing/predictor.ts';
import { createRecency } from '../../src/routing/recency.ts';
import type { RoutingShape } from '../../src/routing/token-routes.ts';
import { createTokenTable } from '../../src/routing/token-table.ts';
import { getRoutes, type PackedTrace } from './packed-trace.ts';

export const predictorNames = ['none', 'recency', 'token', 'affinity', 'ensemble', 'oracle'] as const;
export type PredictorName = (typeof predictorNames)[number];

export function createPredictor(name: Exclude<PredictorName, 'none' | 'oracle'>, shape: RoutingShape): Predictor {
  switch (name) {
    case 'recency':
      return createRecency(shape);
    case 'token':
      return createTokenTable(shape);
    case 'affinity':
      return createAffinity(shape);
    case 'ensemble':
      return createEnsemble(shape, [createRecency(shape), createTokenTable(shape), createAffinity(shape)]);
  }
}

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
    },
    predictBehind: () => 0,
    observe() {
      token++;
    },
    save: () => createState('oracle', trace.header, {}),
    restore() {},
  };
}
