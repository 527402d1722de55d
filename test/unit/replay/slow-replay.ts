/**
 * CONTRACT's rules of a replay, written as slowly and plainly as they read: one list of residents per layer, sorted anew for
 * every victim. What the fast one must agree with.
 */
import type { Predictor } from '../../../src/routing/predictor.ts';
import { getContext, getRoutes, type PackedTrace } from '../../../src/routing/replay/packed-trace.ts';

export type SlowPolicy = 'lru' | 'lfu' | 'belady';

interface Resident {
  readonly expert: number;
  /** Number of the insertion that brought it; those of one event are equal. */
  readonly since: number;
  waiting: boolean;
}

export interface SlowResult {
  needed: number;
  presentBefore: number;
  presentAfter: number;
  faultingLayers: number;
  demandUploads: number;
  usefulUploads: number;
  wastedUploads: number;
}

export function slowReplay(
  trace: PackedTrace,
  slots: number,
  policy: SlowPolicy,
  predictor: Predictor | undefined,
  prefetchPages: number,
): SlowResult {
  const { layers, experts } = trace.header;
  const result: SlowResult = {
    needed: 0,
    presentBefore: 0,
    presentAfter: 0,
    faultingLayers: 0,
    demandUploads: 0,
    usefulUploads: 0,
    wastedUploads: 0,
  };
  const residents: Resident[][] = Array.from({ length: layers }, () => []);
  const lastUse = Array.from({ length: layers }, () => Array<number>(experts).fill(-1));
  const uses = Array.from({ length: layers }, () => Array<number>(experts).fill(0));
  const expected = Array.from({ length: layers }, () => new Set<number>());
  const middles: (number | undefined)[] = [];
  let insertions = 0;

  const getSet = (token: number, layer: number) => getRoutes(trace, token).getLayer(layer);
  const has = (layer: number, expert: number) => residents[layer]!.some((resident) => resident.expert === expert);
  const getRank = (layer: number, expert: number, token: number, ran: boolean) => {
    if (policy === 'lru') return lastUse[layer]![expert]!;
    if (policy === 'lfu') return uses[layer]![expert]!;
    for (let next = ran ? token + 1 : token; next < trace.tokens; next++) {
      if (getSet(next, layer).includes(expert)) return -next;
    }
    return Number.NEGATIVE_INFINITY;
  };
  const evict = (layer: number, kept: (expert: number) => boolean, token: number, ran: boolean) => {
    const candidates = residents[layer]!.filter(({ expert }) => !kept(expert)).sort((a, b) => {
      const [rankA, rankB] = [getRank(layer, a.expert, token, ran), getRank(layer, b.expert, token, ran)];
      return rankA === rankB ? a.since - b.since || a.expert - b.expert : rankA - rankB;
    });
    const [victim] = candidates;
    if (!victim) return false;
    residents[layer] = residents[layer]!.filter((resident) => resident !== victim);
    if (victim.waiting) result.wastedUploads++;
    return true;
  };
  const prefetch = (token: number, layer: number, scores: Float32Array) => {
    const named = Array.from({ length: experts }, (_, expert) => expert)
      .filter((expert) => scores[layer * experts + expert]! > 0)
      .sort((a, b) => scores[layer * experts + b]! - scores[layer * experts + a]! || a - b)
      .slice(0, prefetchPages);
    for (const expert of named) expected[layer]!.add(expert);
    insertions++;
    const inserted: number[] = [];
    for (const expert of named) {
      if (has(layer, expert)) continue;
      if (residents[layer]!.length === slots && !evict(layer, (other) => expected[layer]!.has(other), token, false))
        break;
      residents[layer]!.push({ expert, since: insertions, waiting: true });
      inserted.push(expert);
    }
    if (inserted.length === 0) return;
    const times = residents[layer]!.map((resident) => lastUse[layer]![resident.expert]!).sort((a, b) => a - b);
    middles[layer] ??= times[times.length >> 1]!;
    for (const expert of inserted) lastUse[layer]![expert] = Math.max(lastUse[layer]![expert]!, middles[layer]!);
  };

  for (let token = 0; token < trace.tokens; token++) {
    const context = getContext(trace, token);
    const scores = new Float32Array(layers * experts);
    for (const set of expected) set.clear();
    middles.length = 0;
    for (let layer = 0; layer < layers; layer++) {
      result.presentBefore += getSet(token, layer).filter((expert) => has(layer, expert)).length;
    }
    predictor?.predict(context, scores);
    if (predictor) for (let layer = 0; layer < layers; layer++) prefetch(token, layer, scores);
    for (let layer = 0; layer < layers; layer++) {
      const set = getSet(token, layer).sort((a, b) => a - b);
      const misses = set.filter((expert) => !has(layer, expert));
      result.needed += set.length;
      result.presentAfter += set.length - misses.length;
      result.demandUploads += misses.length;
      for (const resident of residents[layer]!) {
        if (!resident.waiting || !set.includes(resident.expert)) continue;
        resident.waiting = false;
        result.usefulUploads++;
      }
      insertions++;
      for (const expert of misses) {
        if (residents[layer]!.length === slots) evict(layer, (other) => set.includes(other), token, true);
        residents[layer]!.push({ expert, since: insertions, waiting: false });
      }
      for (const expert of set) {
        lastUse[layer]![expert] = token;
        uses[layer]![expert]!++;
      }
      if (misses.length === 0) continue;
      result.faultingLayers++;
      const written = predictor?.predictBehind(context, getRoutes(trace, token), layer, scores) ?? 0;
      for (let distance = 1; distance <= written; distance++) prefetch(token, layer + distance, scores);
    }
    predictor?.observe(context, getRoutes(trace, token));
  }
  result.wastedUploads += residents.flat().filter(({ waiting }) => waiting).length;
  return result;
}
