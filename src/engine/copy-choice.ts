/** Whether a load puts its model into a store, or reads it where it is. Pure. */
import type { LoadOptions, ModelSource } from './engine';

/** What comes over a network is kept; a file of the user's only where that was asked for. */
export function isCopied(source: ModelSource, { copy, store }: LoadOptions): boolean {
  return copy ?? (source.kind === 'url' || store !== undefined);
}
