/**
 * How alike the routes of neighbouring tokens are, whatever the cache: SRP and SCH of arXiv 2505.16056 (v4), both over all
 * layers' experts together. Conversations are apart: no segment spans two, and the segment cache starts each one empty.
 */
import type { PackedTrace } from './packed-trace';

/** The segment lengths of the paper, in tokens. */
export const segmentLengths = [4, 16, 64, 256] as const;
/** The paper's cache ratio where it compares models: twice the active experts. */
export const cacheRatio = 2;

/**
 * Segment Routing best Performance (appendix C.1, equation 6): the best F1 of a router that must decide for whole segments.
 * It calls an expert active in every segment, at every position, in which the expert is used at least alpha times; the
 * best alpha counts. Null when no conversation is `segmentLength` tokens long.
 * @param traces of one model
 */
export function getSegmentRouting(traces: readonly PackedTrace[], segmentLength: number): number | null {
  /** By uses f: expert-segment pairs with exactly f uses. Those without a use never help: entry 0 is not read. */
  const pairs = new Float64Array(segmentLength + 1);
  const segments = traces.reduce((sum, trace) => sum + countPairs(trace, segmentLength, pairs), 0);
  if (segments === 0) return null;
  let total = 0;
  for (let count = 1; count <= segmentLength; count++) total += count * (pairs[count] as number);
  let [best, matches, predicted] = [0, 0, 0];
  for (let alpha = segmentLength; alpha >= 1; alpha--) {
    matches += alpha * (pairs[alpha] as number);
    predicted += segmentLength * (pairs[alpha] as number);
    if (predicted > 0) best = Math.max(best, (2 * matches) / (predicted + total));
  }
  return best;
}

/** Adds a trace's expert-segment pairs to `pairs` by their uses. @returns the number of segments. */
function countPairs(trace: PackedTrace, segmentLength: number, pairs: Float64Array): number {
  const { pages, starts } = getTokenPages(trace);
  const uses = new Int32Array(trace.header.layers * trace.header.experts);
  /** By page: the segment from which on it has these uses; they change only when the page enters or leaves. */
  const since = new Float64Array(uses.length);
  const change = (token: number, segment: number, by: number): void => {
    for (let at = starts[token] as number; at < (starts[token + 1] as number); at++) {
      const page = pages[at] as number;
      const count = uses[page] as number;
      pairs[count] = (pairs[count] as number) + segment - (since[page] as number);
      since[page] = segment;
      uses[page] = count + by;
    }
  };
  let segments = 0;
  for (const [from, to] of getSequences(trace)) {
    const positions = to - from - segmentLength + 1;
    if (positions < 1) continue;
    segments += positions;
    uses.fill(0);
    since.fill(0);
    for (let token = from; token < from + segmentLength; token++) change(token, 0, 1);
    for (let segment = 1; segment < positions; segment++) {
      change(from + segment - 1, segment, -1);
      change(from + segment + segmentLength - 1, segment, 1);
    }
    for (const [page, count] of uses.entries()) {
      pairs[count] = (pairs[count] as number) + positions - (since[page] as number);
    }
  }
  return segments;
}

/**
 * Segment Cache best Hit rate (section 2.3): the hit rate of a cache of `ratio` times the active experts that evicts, of
 * what the token does not use, the experts used least in the next `segmentLength` tokens; ties evict the longest resident,
 * then the lowest id. 0 when nothing was used.
 * @param traces of one model
 */
export function getSegmentCache(traces: readonly PackedTrace[], segmentLength: number, ratio = cacheRatio): number {
  let [hits, needed] = [0, 0];
  for (const trace of traces) {
    hits += countSegmentHits(trace, segmentLength, ratio);
    needed += trace.ids.length;
  }
  return needed > 0 ? hits / needed : 0;
}

function countSegmentHits(trace: PackedTrace, segmentLength: number, ratio: number): number {
  const { layers, experts, expertsPerToken } = trace.header;
  const { pages, starts } = getTokenPages(trace);
  const capacity = Math.min(ratio * expertsPerToken, experts) * layers;
  /** By page: uses in the next tokens. */
  const uses = new Int32Array(layers * experts);
  const change = (token: number, by: number): void => {
    for (let at = starts[token] as number; at < (starts[token + 1] as number); at++) {
      const page = pages[at] as number;
      uses[page] = (uses[page] as number) + by;
    }
  };
  const isPresent = new Uint8Array(layers * experts);
  const currentOf = new Int32Array(layers * experts).fill(-1);
  const byUses = new Int32Array(segmentLength + 1);
  /** Removes the first `surplus` residents that `token` does not use, fewest uses first. */
  const evictLeastUsed = (residents: number[], surplus: number, token: number): void => {
    byUses.fill(0);
    for (const page of residents) {
      if (currentOf[page] !== token) byUses[uses[page] as number] = (byUses[uses[page] as number] as number) + 1;
    }
    let limit = 0;
    let atLimit = surplus;
    while (atLimit > (byUses[limit] as number)) atLimit -= byUses[limit++] as number;
    let kept = 0;
    for (const page of residents) {
      const count = uses[page] as number;
      if (currentOf[page] === token || count > limit || (count === limit && --atLimit < 0)) residents[kept++] = page;
      else isPresent[page] = 0;
    }
    residents.length = kept;
  };
  let hits = 0;
  for (const [from, to] of getSequences(trace)) {
    uses.fill(0);
    isPresent.fill(0);
    /** The longest resident first, among equals the lowest id: pages join at the end, ascending. */
    const residents: number[] = [];
    for (let token = from; token < Math.min(from + segmentLength, to); token++) change(token, 1);
    for (let token = from; token < to; token++) {
      change(token, -1);
      if (token + segmentLength < to) change(token + segmentLength, 1);
      const misses: number[] = [];
      for (let at = starts[token] as number; at < (starts[token + 1] as number); at++) {
        const page = pages[at] as number;
        currentOf[page] = token;
        if (isPresent[page] === 1) hits++;
        else misses.push(page);
      }
      const surplus = residents.length + misses.length - capacity;
      if (surplus > 0) evictLeastUsed(residents, surplus, token);
      misses.sort((a, b) => a - b);
      for (const page of misses) {
        residents.push(page);
        isPresent[page] = 1;
      }
    }
  }
  return hits;
}

/** Conversations as [first token, behind the last token]. */
function getSequences({ sequences, tokens }: PackedTrace): [number, number][] {
  const spans: [number, number][] = [];
  for (let token = 0; token < tokens; token++) {
    const last = spans.at(-1);
    if (last && sequences[token] === sequences[token - 1]) last[1] = token + 1;
    else spans.push([token, token + 1]);
  }
  return spans;
}

/** Pages (layer x experts + expert) of token t, all its layers: `pages[starts[t] .. starts[t + 1])`. */
function getTokenPages(trace: PackedTrace): { pages: Uint32Array; starts: Uint32Array } {
  const { layers, experts } = trace.header;
  const pages = new Uint32Array(trace.ids.length);
  const starts = new Uint32Array(trace.tokens + 1);
  for (let event = 0; event < trace.tokens * layers; event++) {
    const end = trace.starts[event + 1] as number;
    const first = (event % layers) * experts;
    for (let at = trace.starts[event] as number; at < end; at++) pages[at] = first + (trace.ids[at] as number);
  }
  for (let token = 0; token <= trace.tokens; token++) starts[token] = trace.starts[token * layers] as number;
  return { pages, starts };
}
