/**
 * The interface of everything that guesses which experts a token will use, and the form of what it remembers.
 * A predictor never decides what is fetched: its scores are probabilities, and the pager weighs them against costs.
 */
import { EngineError } from '../errors';
import type { RoutingShape, TokenRoutes } from './token-routes';

/** What is known of a token before it runs. */
export interface TokenContext {
  readonly tokenId: number;
  /** Tokens before it in its conversation. */
  readonly position: number;
  /** The last of these; null: there is none, or it is not known. */
  readonly previousId: number | null;
}

export interface Predictor {
  readonly name: string;
  /**
   * Before the token: writes P(the token uses the expert in the layer) for every expert of every layer.
   * @param scores [layers, experts] f32, overwritten.
   * @returns false when nothing is known of this token; the scores are 0 then.
   */
  predict(context: TokenContext, scores: Float32Array): boolean;
  /**
   * At a fault, with the token's exact routes up to and including `layer`: writes better probabilities for layers behind
   * it. What `routes` says of later layers is a guess, and read by the look-ahead alone.
   * @param scores [layers, experts] f32; holds an earlier prediction of this predictor for this token.
   * @returns the number of layers behind `layer`, from the next one on, whose scores were written; 0 when the routes tell
   * this predictor nothing new.
   */
  predictBehind(context: TokenContext, routes: TokenRoutes, layer: number, scores: Float32Array): number;
  /** Learns from a token that has run. */
  observe(context: TokenContext, routes: TokenRoutes): void;
  /** A copy of what was learnt, structured-cloneable; for the same model only. */
  save(): PredictorState;
  /** @throws EngineError `CORRUPT` when the state is not one of this predictor and this shape. Replaces what was learnt. */
  restore(state: PredictorState): void;
}

/** Raised whenever states of an older version would be misread. */
const stateVersion = 2;

export type SavedArray = Float32Array | Uint8Array | Uint16Array | Uint32Array;

/** What a predictor learnt. Plain data: it goes to IndexedDB as it is. */
export interface PredictorState {
  readonly predictor: string;
  readonly version: typeof stateVersion;
  readonly layers: number;
  readonly experts: number;
  readonly arrays: Readonly<Record<string, SavedArray>>;
  /** States of an ensemble's members, by name. */
  readonly members?: Readonly<Record<string, PredictorState>>;
}

export function createState(
  predictor: string,
  { layers, experts }: RoutingShape,
  arrays: PredictorState['arrays'],
): PredictorState {
  return { predictor, version: stateVersion, layers, experts, arrays };
}

/** The state's arrays by name, once it is known to be of this predictor and shape. */
export function openState(state: PredictorState, predictor: string, shape: RoutingShape): StateArrays {
  const is = `${state?.predictor} v${state?.version} of ${state?.layers} layers x ${state?.experts} experts`;
  const wanted = `${predictor} v${stateVersion} of ${shape.layers} layers x ${shape.experts} experts`;
  if (is !== wanted || typeof state.arrays !== 'object' || state.arrays === null) {
    throw corruptState(predictor, `is ${is}, not ${wanted}`);
  }
  return new StateArrays(state);
}

export function corruptState(predictor: string, problem: string): EngineError {
  return new EngineError(
    'CORRUPT',
    `the stored state of the predictor "${predictor}" ${problem}; delete it, and it is learnt anew`,
  );
}

/** Checked access to the arrays of a state that storage gave back. */
export class StateArrays {
  constructor(private readonly state: PredictorState) {}

  /** A finite array of this type, non-negative unless it is said to be signed. `length` undefined: any length. */
  get<T extends SavedArray>(name: string, type: new (length: number) => T, length?: number, isSigned = false): T {
    const { predictor, arrays } = this.state;
    const array = arrays[name];
    if (!(array instanceof type)) throw corruptState(predictor, `has no ${type.name} "${name}"`);
    if (length !== undefined && array.length !== length) {
      throw corruptState(predictor, `has ${array.length} values in "${name}", not ${length}`);
    }
    for (const value of array) {
      if (!Number.isFinite(value) || (value < 0 && !isSigned)) {
        throw corruptState(predictor, `has the value ${value} in "${name}"`);
      }
    }
    return array;
  }
}
