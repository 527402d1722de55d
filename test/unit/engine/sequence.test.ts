/** What a sequence tells its forecast of each token: the one before it, also where a kept prefix was not computed again. */
import { expect, it } from 'vitest';
import { createForecast } from '../../../src/engine/forecast';
import type { PassPlan, PassRequest } from '../../../src/engine/pass';
import type { PassRunner } from '../../../src/engine/pass-runner';
import type { Runtime } from '../../../src/engine/runtime';
import { Sequence } from '../../../src/engine/sequence';
import type { TokenContext } from '../../../src/routing/predictor';
import { buildTestManifest } from '../test-manifest';

it('behind a kept prefix, behind a chunk and behind accepted guesses the token before is the true one', async () => {
  const manifest = await buildTestManifest();
  const { moeLayers, moe } = manifest.config;
  const pager = { isWhole: true, counters: { faultingLayers: 0 } };
  let acceptedRows = 0;
  // Feeds what it is given.
  const runner = {
    counters: { roundTrips: 0, unreachedTokens: 0 },
    hasBegun: () => false,
    run: async ({ tokenIds }: PassRequest) => ({
      tokenIds,
      acceptedRows,
      sampledIds: new Uint32Array(),
      logits: null,
      routes: new Uint32Array(moeLayers.length * tokenIds.length * moe.expertsPerToken),
    }),
  };
  const learnt: TokenContext[] = [];
  const shape = { layers: moeLayers.length, experts: moe.experts, expertsPerToken: moe.expertsPerToken };
  const forecast = { ...createForecast('none', shape), observe: (context: TokenContext) => void learnt.push(context) };
  const runtime = { manifest, pager, calibration: {}, pool: { getPageBytes: () => 1 } } as unknown as Runtime;
  const open = () =>
    new Sequence(runtime, runner as unknown as PassRunner, forecast, { segmentLayers: 1, runAhead: 'off' });
  const feed = async (
    sequence: Sequence,
    tokenIds: readonly number[],
    position: number,
    isChunk: boolean,
    rows: number,
  ) => {
    acceptedRows = rows;
    await sequence.run({ tokenIds, position, isChunk, logitRows: 0, sampling: null, readLogits: false });
  };

  const first = open();
  first.skip([]);
  await feed(first, [5, 6], 0, true, 2);
  const second = open();
  second.skip([5, 9]);
  await feed(second, [7, 8], 2, true, 2);
  // Of two guesses one holds, and the next token takes the place of the other.
  await feed(second, [1, 2, 3], 4, false, 2);
  await feed(second, [4], 6, false, 1);
  expect(learnt.map(({ tokenId, position, previousId }) => [previousId, tokenId, position])).toEqual([
    [null, 5, 0],
    [5, 6, 1],
    [9, 7, 2],
    [7, 8, 3],
    [8, 1, 4],
    [1, 2, 5],
    [2, 4, 6],
  ]);
});

it.each([
  { trip: 'short', roundTripMs: 2, runAhead: 1 },
  { trip: 'longer than three layers', roundTripMs: 4, runAhead: 2 },
  { trip: 'longer than six', roundTripMs: 7, runAhead: 'all' },
])('behind a fault runs the more, the longer a round trip is: $trip', async ({ roundTripMs, runAhead }) => {
  const manifest = await buildTestManifest();
  const { layers, moeLayers, moe } = manifest.config;
  const plans: PassPlan[] = [];
  const runner = {
    counters: { roundTrips: 0, unreachedTokens: 0 },
    layerMs: 1,
    hasBegun: () => false,
    run: async ({ tokenIds }: PassRequest, plan: PassPlan) => {
      plans.push(plan);
      return { tokenIds, acceptedRows: 1, routes: new Uint32Array(moeLayers.length * moe.expertsPerToken) };
    },
  };
  const shape = { layers: moeLayers.length, experts: moe.experts, expertsPerToken: moe.expertsPerToken };
  const runtime = {
    manifest,
    pager: { isWhole: true, counters: { faultingLayers: 0 } },
    calibration: { roundTripMs, deadLayerMs: 0.1 },
    pool: { getPageBytes: () => 1 },
  };
  for (const name of ['ensemble', 'none'] as const) {
    const sequence = new Sequence(
      runtime as unknown as Runtime,
      runner as unknown as PassRunner,
      createForecast(name, shape),
      { segmentLayers: 'auto', runAhead: 'auto' },
    );
    await sequence.run({ tokenIds: [1], position: 0, isChunk: false, logitRows: 1, sampling: null, readLogits: false });
  }
  const all = runAhead === 'all';
  // Without a forecast that looks ahead a router alone is of no use.
  expect(plans.map((plan) => plan.runAhead)).toEqual([all ? layers + 1 : runAhead, all ? layers + 1 : 0]);
});
