/** webmoe's public interface: named re-exports only. */
export { createEngine, type RemoteEngine, type RemoteEngineOptions } from './client/remote-engine';
export type {
  ChatMessage,
  Engine,
  EvictionName,
  ExpertBudget,
  ExpertBudgetChange,
  ForecastFiles,
  GenerateEvent,
  GenerateRequest,
  GenerateResult,
  GenerateStats,
  InstalledModel,
  LoadedModel,
  LoadOptions,
  LoadProgress,
  ModelSource,
  PagingOptions,
  PredictorName,
  SamplingOptions,
  ScoreRequest,
  ScoreResult,
  TokenLogprob,
  TraceEntry,
} from './engine/engine';
export { EngineError, type ErrorCode } from './errors';
export type { StoreKind } from './store/model-store';
