/** webmoe's public interface: named re-exports only. */
export { createEngine, type RemoteEngine, type RemoteEngineOptions } from './client/remote-engine';
export type {
  ChatMessage,
  Engine,
  ExpertBudget,
  GenerateEvent,
  GenerateRequest,
  GenerateResult,
  GenerateStats,
  InstalledModel,
  LoadedModel,
  LoadOptions,
  LoadProgress,
  ModelSource,
  SamplingOptions,
  TokenLogprob,
} from './engine/engine';
export { EngineError, type ErrorCode } from './errors';
export type { StoreKind } from './store/model-store';
