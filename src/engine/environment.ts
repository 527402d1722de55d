/** What an engine is made with. Owns types only: the package's declarations reach no further than what they name. */
import type { ModelStore, StoreKind } from '../store/model-store';
import type { OpenPathModel } from './forecast-shelf';

/** What the engine takes from its surroundings; each has the browser's own as default. */
export interface EngineEnvironment {
  /** Default: `navigator.gpu`. */
  readonly gpu?: GPU;
  /** Default: the browser's stores. */
  readonly openStore?: (kind: StoreKind) => Promise<ModelStore>;
  /** For models that come from a URL. */
  readonly fetch?: typeof globalThis.fetch;
  /** Added to every read-back from the GPU, in milliseconds: for measurements. */
  readonly readbackDelayMs?: number;
  /** For the learned predictors; without it they are refused. */
  readonly openPathModel?: OpenPathModel;
}
