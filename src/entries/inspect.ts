/**
 * `webmoe/inspect`: what needs no GPU: models read from their headers, memory plans, routing traces replayed. Named re-exports
 * only.
 * @module webmoe/inspect
 */
export type { WeightType } from '../checkpoint/model-config';
export type { ModelSource } from '../engine/engine';
export {
  type InspectOptions,
  inspectModel,
  type MemoryPreview,
  type MemoryPreviewRequest,
  type ModelReport,
  type PlannedMemory,
  type PreviewAdapter,
} from '../engine/inspect-model';
export type { BindingLimits } from '../engine/memory-plan';
export { EngineError, type ErrorCode } from '../errors';
export { getExpectedHitRate, type HitRateRange } from '../routing/expected-hit-rate';
export { type PackedTrace, packTrace, readPackedTrace } from '../routing/replay/packed-trace';
export { type LocalRouting, type ReplayOptions, type ReplayRow, replayTraces } from '../routing/replay/rows';
export type { TraceHeader, TraceToken } from '../routing/trace';
