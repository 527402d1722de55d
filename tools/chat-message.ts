/** Whether a value read from a file is a message of a chat. */
import type { ChatMessage } from '../src/engine/engine.ts';

export function isChatMessage(value: unknown): value is ChatMessage {
  if (typeof value !== 'object' || value === null) return false;
  const { role, content } = value as Partial<Record<keyof ChatMessage, unknown>>;
  return (role === 'system' || role === 'user' || role === 'assistant') && typeof content === 'string';
}
