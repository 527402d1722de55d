/**
 * Pages that are named in time are there in time: a store that is slow beside memory, but fast beside a round trip, costs no
 * round trip more.
 */
import { afterEach, expect, it } from 'vitest';
import type { Engine, GenerateRequest } from '../../src/engine/engine';
import type { ModelStore } from '../../src/store/model-store';
import { openAnyStore } from '../opfs/remote-store';
import { generate, openSession } from './engine-session';

/** Long beside the reads, also on a machine that does other things. */
const READBACK_MS = 60;
const READ_MS = 1;

const engines: Engine[] = [];
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.unload();
});

const request: GenerateRequest = {
  tokenIds: [5, 9, 30],
  maxTokens: 12,
  ignoreEos: true,
  draft: { kind: 'off' },
  sampling: { temperature: 0.8, seed: 3 },
  // Runs behind a fault name its pages: no predictor and no token that goes on, whose choices depend on measured times.
  paging: { predictor: 'none', runAhead: true, segmentLayers: 99 },
  tokensPerSubmit: 1,
};

async function ask(readMs: number, hostCacheBytes: number | undefined) {
  const slow = async (base: ModelStore): Promise<ModelStore> => ({
    ...base,
    async readRecord(modelId, key) {
      if (readMs > 0) await new Promise((resolve) => setTimeout(resolve, readMs));
      return base.readRecord(modelId, key);
    },
  });
  const { engine } = await openSession(
    'e16k4-q4_0',
    { expertBudget: { percent: 25 }, ...(hostCacheBytes !== undefined && { hostCacheBytes }) },
    { openStore: async (kind) => slow(await openAnyStore(kind)), readbackDelayMs: READBACK_MS },
  );
  engines.push(engine);
  const { result } = await generate(engine, request);
  return result;
}

it('a store that is quick beside a round trip costs no more of them than host RAM does', async () => {
  const fromRam = await ask(0, undefined);
  const fromStore = await ask(READ_MS, 0);
  expect(fromStore.tokenIds).toEqual(fromRam.tokenIds);
  expect(fromRam.stats.uploadBytes.useful).toBeGreaterThan(0);
  expect(fromStore.stats.roundTrips).toBeLessThanOrEqual(fromRam.stats.roundTrips);
  expect(fromStore.stats.uploadBytes.useful).toBeGreaterThanOrEqual(fromRam.stats.uploadBytes.useful);
});
