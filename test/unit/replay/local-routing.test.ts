import { expect, test } from 'vitest';
import { getSegmentCache, getSegmentRouting } from '../../../src/routing/replay/local-routing.ts';
import { getRoutes, type PackedTrace, packTrace } from '../../../src/routing/replay/packed-trace.ts';
import { createRandom } from '../random.ts';
import { makeTrace } from './traces.ts';

/** [conversations][tokens]: the pages (layer x experts + expert) that each token uses. */
function getConversations(trace: PackedTrace): number[][][] {
  const conversations: number[][][] = [];
  for (let token = 0; token < trace.tokens; token++) {
    const routes = getRoutes(trace, token);
    const pages = trace.header.layerIndices.flatMap((_, layer) =>
      routes.getLayer(layer).map((expert) => layer * trace.header.experts + expert),
    );
    if (token > 0 && trace.sequences[token] === trace.sequences[token - 1]) conversations.at(-1)!.push(pages);
    else conversations.push([pages]);
  }
  return conversations;
}

/** Equation 6 by trying every alpha on every segment. */
function slowSegmentRouting(trace: PackedTrace, length: number): number | null {
  const counts: number[] = [];
  let segments = 0;
  for (const tokens of getConversations(trace)) {
    for (let start = 0; start + length <= tokens.length; start++) {
      segments++;
      const inside = tokens.slice(start, start + length).flat();
      for (let page = 0; page < trace.header.layers * trace.header.experts; page++) {
        counts.push(inside.filter((used) => used === page).length);
      }
    }
  }
  if (segments === 0) return null;
  const total = counts.reduce((sum, count) => sum + count, 0);
  const scores = Array.from({ length }, (_, alpha) => {
    const active = counts.filter((count) => count >= alpha + 1);
    const matches = active.reduce((sum, count) => sum + count, 0);
    return total === 0 ? 0 : (2 * matches) / (length * active.length + total);
  });
  return Math.max(...scores);
}

/** Section 2.3, every eviction by counting the next tokens anew. */
function slowSegmentCache(trace: PackedTrace, length: number): number {
  const { layers, experts, expertsPerToken } = trace.header;
  const capacity = Math.min(2 * expertsPerToken, experts) * layers;
  let [hits, needed] = [0, 0];
  for (const tokens of getConversations(trace)) {
    let cache: { page: number; since: number }[] = [];
    for (const [at, pages] of tokens.entries()) {
      const next = tokens.slice(at + 1, at + 1 + length).flat();
      const count = (page: number) => next.filter((used) => used === page).length;
      const misses = pages.filter((page) => !cache.some((entry) => entry.page === page)).sort((a, b) => a - b);
      hits += pages.length - misses.length;
      needed += pages.length;
      const order = cache
        .filter(({ page }) => !pages.includes(page))
        .sort((a, b) => count(a.page) - count(b.page) || a.since - b.since || a.page - b.page);
      const gone = order.slice(0, Math.max(0, cache.length + misses.length - capacity));
      cache = [...cache.filter((entry) => !gone.includes(entry)), ...misses.map((page) => ({ page, since: at }))];
    }
  }
  return needed > 0 ? hits / needed : 0;
}

test('SRP and SCH agree with their definitions, plainly written', () => {
  for (let seed = 0; seed < 25; seed++) {
    const random = createRandom(seed);
    const experts = random.integer(1, 8);
    const expertsPerToken = random.integer(1, Math.min(3, experts));
    const size = { layers: random.integer(1, 3), experts, expertsPerToken, tokens: random.integer(1, 70) };
    const trace = makeTrace(random, { ...size, varies: seed % 2 === 0 });
    for (const length of [1, 2, 4, 16]) {
      const routing = getSegmentRouting([trace], length);
      const expected = slowSegmentRouting(trace, length);
      if (expected === null) expect(routing).toBeNull();
      else expect(routing).toBeCloseTo(expected, 10);
      expect(getSegmentCache([trace], length)).toBeCloseTo(slowSegmentCache(trace, length), 10);
    }
  }
});

function makeConstant(tokens: number, expertsOf: (token: number) => number[]): PackedTrace {
  const header = { model: 'm', layers: 1, layerIndices: [0], experts: 8, expertsPerToken: 2 };
  const lines = Array.from({ length: tokens }, (_, token) => ({
    sequence: 0,
    token: 0,
    phase: 'decode' as const,
    routes: [expertsOf(token)],
  }));
  return packTrace('m', header, lines);
}

test('the same experts for every token: SRP is 1, and SCH misses the first token only', () => {
  const trace = makeConstant(100, () => [3, 5]);
  expect(getSegmentRouting([trace], 16)).toBe(1);
  expect(getSegmentCache([trace], 16)).toBe(0.99);
});

test('a conversation shorter than the segment has no SRP; several traces are one corpus', () => {
  const short = makeConstant(10, () => [1, 2]);
  const long = makeConstant(40, (token) => [token % 8, (token + 4) % 8]);
  expect(getSegmentRouting([short], 16)).toBeNull();
  expect(getSegmentRouting([short, long], 16)).toBe(getSegmentRouting([long], 16));
  const hits = getSegmentCache([short], 4) * 20 + getSegmentCache([long], 4) * 80;
  expect(getSegmentCache([short, long], 4)).toBeCloseTo(hits / 100, 12);
});
