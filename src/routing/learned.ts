/**
 * Predictor: a sequence model's forecast of the whole routing path, from the token ids alone. The model runs elsewhere and
 * answers in its own time: what has not come by then is not known. Owns when an answer counts; learns nothing itself.
 */
import { createState, openState, type Predictor } from './predictor';
import type { RoutingShape } from './token-routes';

/** A sequence model of routes. Calls return at once; answers come later, or never. */
export interface PathModel {
  /** Tokens of the conversation from `position` on; what was told of these positions before is void. */
  push(position: number, tokenIds: readonly number[]): void;
  /** [layers, experts] f32: P(the token at `position` uses the expert), once it is known. */
  get(position: number): Float32Array | null;
  /** Resolves when the answer for `position` is there, or after `limitMs`. */
  waitFor(position: number, limitMs: number): Promise<void>;
  close(): void;
}

export function createLearned(shape: RoutingShape, model: PathModel): Predictor {
  const { layers, experts } = shape;
  /** The answer was there before the token. */
  let wasKnown = false;
  return {
    name: 'learned',
    predict({ position }, scores) {
      const answer = model.get(position);
      wasKnown = answer !== null;
      if (answer) scores.set(answer);
      else scores.fill(0);
      return wasKnown;
    },
    predictBehind({ position }, _routes, layer, scores) {
      // An answer that came late still tells of the layers to come.
      const answer = wasKnown ? null : model.get(position);
      if (!answer) return 0;
      scores.set(answer.subarray((layer + 1) * experts), (layer + 1) * experts);
      return layers - 1 - layer;
    },
    observe() {},
    save: () => createState('learned', shape, {}),
    restore: (state) => void openState(state, 'learned', shape),
  };
}
