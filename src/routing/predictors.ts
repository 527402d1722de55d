/**
 * The predictors by name: what the engine forecasts with and what a replay compares. A new one is a file and a line here.
 */
import { createAffinity } from './affinity';
import { createEnsemble } from './ensemble';
import { createLookahead } from './lookahead';
import type { Predictor } from './predictor';
import { createRecency } from './recency';
import type { RoutingShape } from './token-routes';
import { createTokenTable } from './token-table';

export const predictorNames = ['none', 'recency', 'token', 'affinity', 'lookahead', 'ensemble'] as const;
export type PredictorName = (typeof predictorNames)[number];

/** What some predictors need and others do not. */
export interface PredictorSources {
  /** Routers run ahead behind a fault. */
  readonly looksAhead: boolean;
}

/** Null for `none`, which forecasts nothing. */
export function createPredictor(
  name: PredictorName,
  shape: RoutingShape,
  { looksAhead }: PredictorSources,
): Predictor | null {
  switch (name) {
    case 'none':
      return null;
    case 'recency':
      return createRecency(shape);
    case 'token':
      return createTokenTable(shape);
    case 'affinity':
      return createAffinity(shape);
    case 'lookahead':
      return createLookahead(shape);
    case 'ensemble':
      return createEnsemble(shape, [
        createTokenTable(shape),
        createTokenTable(shape, undefined, 'previous'),
        createRecency(shape),
        createAffinity(shape),
        ...(looksAhead ? [createLookahead(shape)] : []),
      ]);
  }
}
