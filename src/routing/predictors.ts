/**
 * The predictors by name: what the engine forecasts with and what a replay compares. A new one is a file and a line here.
 */
import { EngineError } from '../errors';
import { createAffinity } from './affinity';
import { createEnsemble } from './ensemble';
import { createLearned, type PathModel } from './learned';
import { createLookahead } from './lookahead';
import type { Predictor } from './predictor';
import { createRecency } from './recency';
import type { RoutingShape } from './token-routes';
import { createTokenTable } from './token-table';

/** `ensemble+learned`: the ensemble with the learned predictor as one more member. */
export const predictorNames = [
  'none',
  'recency',
  'token',
  'affinity',
  'lookahead',
  'learned',
  'ensemble',
  'ensemble+learned',
] as const;
/** Who forecasts the pages of a token; `none` brings in what is missing only. */
export type PredictorName = (typeof predictorNames)[number];

/** What some predictors need and others do not. */
export interface PredictorSources {
  /** Routers run ahead behind a fault. */
  readonly looksAhead: boolean;
  /** For the learned ones. */
  readonly pathModel?: PathModel | undefined;
}

/**
 * Null for `none`, which forecasts nothing.
 * @throws EngineError `BAD_ARGUMENT` where a learned one lacks its model.
 */
export function createPredictor(
  name: PredictorName,
  shape: RoutingShape,
  { looksAhead, pathModel }: PredictorSources,
): Predictor | null {
  const createPath = (): Predictor => {
    if (pathModel) return createLearned(shape, pathModel);
    throw new EngineError('BAD_ARGUMENT', `the predictor ${name} needs a network and got none: open one`);
  };
  const createTogether = (more: readonly Predictor[]): Predictor =>
    createEnsemble(shape, [
      createTokenTable(shape),
      createTokenTable(shape, undefined, 'previous'),
      createRecency(shape),
      createAffinity(shape),
      ...(looksAhead ? [createLookahead(shape)] : []),
      ...more,
    ]);
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
    case 'learned':
      return createPath();
    case 'ensemble':
      return createTogether([]);
    case 'ensemble+learned':
      return createTogether([createPath()]);
  }
}
