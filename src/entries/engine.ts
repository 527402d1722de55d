/// <reference types="@webgpu/types" preserve="true" />
/**
 * `webmoe/engine`: the engine in process, without a worker: for a thread of your own, or Node over Dawn's bindings. Named
 * re-exports only.
 * @module webmoe/engine
 */
export { type Chat, type ChatOptions, createChat } from '../chat/chat';
export type { QuantizedType } from '../checkpoint/formats/quantize';
export type * from '../engine/engine';
export type { EngineEnvironment } from '../engine/environment';
export { createLocalEngine } from '../engine/local-engine';
export { EngineError, type ErrorCode } from '../errors';
export type { ModelStore, StoreKind } from '../store/model-store';
