/**
 * webmoe's public interface: named re-exports only.
 * @module webmoe
 */
export { type Chat, type ChatOptions, createChat } from './chat/chat';
export type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionMessageParam,
  ChatCompletionRequest,
  ChatDelta,
  ChatLogprobs,
  ChatResponseFormat,
  ChatTokenLogprob,
  ChatTool,
  ChatToolCall,
  ChatToolCallDelta,
  ChatUsage,
  FinishReason,
  PlainRequest,
  StreamingRequest,
  TextContentPart,
} from './chat/types';
export type { QuantizedType } from './checkpoint/formats/quantize';
export { readDrop } from './client/dropped-model';
export { createEngine, type RemoteEngine, type RemoteEngineOptions } from './client/remote-engine';
export type {
  ChatMessage,
  DraftKind,
  DraftOptions,
  Engine,
  EvictionName,
  ExpertBudget,
  ExpertBudgetChange,
  ForcedTuning,
  ForecastFiles,
  GenerateEvent,
  GenerateRequest,
  GenerateResult,
  GenerateStats,
  InstalledModel,
  InstallState,
  KernelOptions,
  KvChoice,
  KvType,
  LoadedModel,
  LoadOptions,
  LoadProgress,
  MemoryEvent,
  ModelSource,
  PagingOptions,
  PredictorName,
  SamplingOptions,
  ScoreRequest,
  ScoreResult,
  StagingChoice,
  StreamedLogprob,
  TokenChance,
  TokenLogprob,
  ToolCall,
  ToolDefinition,
  TraceEntry,
  TrialTime,
  Tuning,
  TuningSetting,
} from './engine/engine';
export type { TierStats, TierUse } from './engine/tiers';
export { EngineError, type ErrorCode } from './errors';
export type { StoreChoice, StoreKind } from './store/model-store';
export type { Grammar } from './text/grammar';
export type { JsonSchema } from './text/schema-grammar';
export type { ToolFamily } from './text/tool-family';
