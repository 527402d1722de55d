/** Random routing traces in memory, as a model's: token ids with habits, layers that follow each other, conversations. */

import { type PackedTrace, packTrace } from '../../../src/routing/replay/packed-trace.ts';
import type { TraceHeader, TraceToken } from '../../../src/routing/trace.ts';
import type { Random } from '../random.ts';

export interface TraceSize {
  readonly layers: number;
  readonly experts: number;
  readonly expertsPerToken: number;
  readonly tokens: number;
  /** Tokens use fewer experts at times, even none. */
  readonly varies?: boolean;
}

export function makeTrace(random: Random, size: TraceSize): PackedTrace {
  const { layers, experts, expertsPerToken } = size;
  const layerIndices = Array.from({ length: layers }, (_, layer) => layer + 1);
  const header: TraceHeader = { model: 'random', layers, layerIndices, experts, expertsPerToken };
  return packTrace('random.jsonl', header, makeTokens(random, size));
}

export function* makeTokens(random: Random, size: TraceSize): Generator<TraceToken> {
  const { layers, experts, expertsPerToken, tokens, varies } = size;
  let sequence = 0;
  for (let step = 0; step < tokens; step++) {
    if (step > 0 && random.number() < 0.05) sequence++;
    const token = random.integer(0, 9);
    const routes = Array.from({ length: layers }, (_, layer) => {
      const count = varies ? random.integer(0, expertsPerToken) : expertsPerToken;
      if (random.number() < 0.4) return random.sample(experts, count);
      const base = Array.from({ length: experts }, (_, expert) => (token * 3 + layer + expert) % experts);
      return base.slice(0, count);
    });
    yield { sequence, token, phase: random.number() < 0.5 ? 'prefill' : 'decode', routes };
  }
}
