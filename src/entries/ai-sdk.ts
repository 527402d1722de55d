/**
 * `webmoe/ai-sdk`: an engine as a provider of the AI SDK (packages `ai` 7 and `@ai-sdk/provider` 4).
 * Named re-exports only.
 * @module webmoe/ai-sdk
 */
export { createWebmoe, type WebmoeProvider } from '../ai-sdk/provider';
