/** The eviction policies by name. Pure. */
import { createDecayedRates } from './decayed-rates';
import { createLru, type EvictionPolicy } from './eviction';

export const evictionNames = ['rates', 'lru'] as const;
/** Which page makes room: `rates`, the lowest sum of two decayed use rates; `lru`, the least recently used. */
export type EvictionName = (typeof evictionNames)[number];

/** A policy for the experts of one layer, of which a token uses so many. */
export function createEviction(name: EvictionName, experts: number, usesPerToken: number): EvictionPolicy {
  switch (name) {
    case 'rates':
      return createDecayedRates(experts, usesPerToken);
    case 'lru':
      return createLru(experts);
  }
}
