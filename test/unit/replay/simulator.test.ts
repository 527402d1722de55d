import { expect, test } from 'vitest';
import type { Predictor } from '../../../src/routing/predictor.ts';
import { createPredictor } from '../../../src/routing/predictors.ts';
import type { PackedTrace } from '../../../src/routing/replay/packed-trace.ts';
import { createPolicy, type PolicyName, policyNames } from '../../../src/routing/replay/policies.ts';
import { createOracle, type PredictorName, predictorNames } from '../../../src/routing/replay/predictors.ts';
import { createCounters, type ReplayCounters, replay } from '../../../src/routing/replay/simulator.ts';
import { createRandom, type Random } from '../random.ts';
import { type SlowPolicy, slowReplay } from './slow-replay.ts';
import { makeTrace } from './traces.ts';

const cases = process.env.WEBMOE_FULL ? 300 : 30;

function makePredictor(name: PredictorName, trace: PackedTrace): Predictor | undefined {
  return name === 'oracle'
    ? createOracle(trace)
    : (createPredictor(name, trace.header, { looksAhead: false }) ?? undefined);
}

interface RunOptions {
  readonly predictor?: PredictorName;
  readonly prefetchPages?: number;
  readonly seed?: number;
}

function run(trace: PackedTrace, slots: number, policy: PolicyName, options: RunOptions = {}): ReplayCounters {
  const counters = createCounters();
  const { predictor = 'none', prefetchPages = trace.header.expertsPerToken, seed = 0 } = options;
  replay(
    {
      trace,
      slots,
      policy: createPolicy(policy, trace, seed),
      predictor: makePredictor(predictor, trace),
      prefetchPages,
      minProbability: 0,
    },
    counters,
  );
  return counters;
}

/** A small trace and a number of slots that it may have. */
function makeCase(seed: number): { random: Random; trace: PackedTrace; slots: number } {
  const random = createRandom(seed);
  const experts = random.integer(1, 9);
  const expertsPerToken = random.integer(1, experts);
  const layers = random.integer(1, 5);
  const tokens = random.integer(1, 60);
  const trace = makeTrace(random, { layers, experts, expertsPerToken, tokens, varies: random.number() < 0.5 });
  return { random, trace, slots: random.integer(expertsPerToken, experts + 1) };
}

test('agrees with the rules as plainly written, over policies, predictors, slots and prefetch sizes', () => {
  let faults = 0;
  let prefetches = 0;
  for (let seed = 0; seed < cases; seed++) {
    const { random, trace, slots } = makeCase(seed);
    const prefetchPages = random.integer(0, trace.header.experts + 1);
    for (const policy of ['lru', 'lfu', 'belady'] as const satisfies readonly SlowPolicy[]) {
      for (const predictor of predictorNames) {
        const pages = predictor === 'oracle' ? trace.header.expertsPerToken : prefetchPages;
        const slow = slowReplay(trace, slots, policy, makePredictor(predictor, trace), pages);
        const fast = run(trace, slots, policy, { predictor, prefetchPages: pages });
        expect({ seed, policy, predictor, ...fast }).toMatchObject({ seed, policy, predictor, ...slow });
        faults += fast.faultingLayers;
        prefetches += fast.usefulUploads + fast.wastedUploads;
      }
    }
  }
  expect(faults).toBeGreaterThan(cases);
  expect(prefetches).toBeGreaterThan(cases);
});

test('no policy has more hits than Belady', () => {
  for (let seed = 0; seed < cases; seed++) {
    const { trace, slots } = makeCase(1000 + seed);
    const best = run(trace, slots, 'belady').presentAfter;
    for (const policy of policyNames) {
      expect(run(trace, slots, policy, { seed }).presentAfter).toBeLessThanOrEqual(best);
    }
  }
});

test('the oracle has no fault, wastes nothing and uploads what is missed without it', () => {
  for (let seed = 0; seed < cases; seed++) {
    const { trace, slots } = makeCase(2000 + seed);
    for (const policy of policyNames) {
      const none = run(trace, slots, policy);
      const oracle = run(trace, slots, policy, { predictor: 'oracle' });
      expect(oracle).toMatchObject({ faultingLayers: 0, demandUploads: 0, wastedUploads: 0 });
      expect(oracle.presentAfter).toBe(oracle.needed);
      if (policy === 'decayed-rates') continue;
      expect(oracle.usefulUploads).toBe(none.demandUploads);
      expect(oracle.presentBefore).toBe(none.presentBefore);
    }
  }
});

test('with a slot for every expert each page is missed once', () => {
  for (let seed = 0; seed < cases; seed++) {
    const { trace } = makeCase(3000 + seed);
    const { layers, experts } = trace.header;
    const used = new Set(Array.from(trace.ids, (expert, at) => `${getLayer(trace, at)} ${expert}`));
    for (const policy of policyNames) {
      const counters = run(trace, experts, policy);
      expect(counters.demandUploads).toBe(used.size);
      expect(counters.demandUploads).toBeLessThanOrEqual(layers * experts);
      expect(counters.presentAfter).toBe(counters.needed - used.size);
    }
  }
});

test('every upload is counted once: demand, useful or wasted', () => {
  for (let seed = 0; seed < cases; seed++) {
    const { trace, slots } = makeCase(4000 + seed);
    for (const predictor of predictorNames) {
      const counters = run(trace, slots, 'lru', { predictor });
      expect(counters.needed).toBe(counters.presentAfter + counters.demandUploads);
      expect(counters.presentAfter - counters.presentBefore).toBeLessThanOrEqual(counters.usefulUploads);
      if (predictor === 'none') expect(counters.usefulUploads + counters.wastedUploads).toBe(0);
    }
  }
});

test('no prefetch pages are the same as no predictor', () => {
  const { trace, slots } = makeCase(7);
  const none = run(trace, slots, 'lru');
  const idle = run(trace, slots, 'lru', { predictor: 'ensemble', prefetchPages: 0 });
  expect(idle.demandUploads).toBe(none.demandUploads);
  expect(idle.usefulUploads + idle.wastedUploads).toBe(0);
});

test('the same seed draws the same victims, another one others', () => {
  const trace = makeTrace(createRandom(5), { layers: 2, experts: 16, expertsPerToken: 2, tokens: 400 });
  const hits = [1, 1, 2].map((seed) => run(trace, 6, 'random', { seed }).presentAfter);
  expect(hits[0]).toBe(hits[1]);
  expect(hits[0]).not.toBe(hits[2]);
});

test('recall counts the experts used among the best k and 2k, before the token and by layers behind a fault', () => {
  const trace = makeTrace(createRandom(6), { layers: 4, experts: 12, expertsPerToken: 2, tokens: 300 });
  const oracle = run(trace, 4, 'lru', { predictor: 'oracle' }).recall.getShares();
  expect(oracle).toEqual({ 0: { 2: 1, 4: 1 } });
  const ensemble = run(trace, 4, 'lru', { predictor: 'ensemble' }).recall.getShares();
  expect(Object.keys(ensemble)).toEqual(['0', '1', '2', '3']);
  for (const bySize of Object.values(ensemble)) {
    expect(Object.keys(bySize)).toEqual(['2', '4']);
    expect(bySize[2]).toBeGreaterThan(0.3);
    expect(bySize[4]).toBeGreaterThanOrEqual(bySize[2]!);
    expect(bySize[4]).toBeLessThanOrEqual(1);
  }
  expect(run(trace, 4, 'lru').recall.getShares()).toEqual({});
});

function getLayer(trace: PackedTrace, at: number): number {
  const event = trace.starts.findLastIndex((start) => start <= at);
  return event % trace.header.layers;
}
