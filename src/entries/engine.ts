/// <reference types="@webgpu/types" preserve="true" />
/**
 * `webmoe/engine`: the engine in process, without a worker: for a thread of your own, or Node over Dawn's bindings. Named
 * re-exports only.
 */
export { type Chat, type ChatOptions, createChat } from '../chat/chat';
export type * from '../engine/engine';
export { createLocalEngine, type EngineEnvironment } from '../engine/local-engine';
export { EngineError, type ErrorCode } from '../errors';
export type { ModelStore, StoreKind } from '../store/model-store';
