/** What a predictor learnt stays with the model: a second visit to the same store starts warm, and answers the same. */
import { afterEach, expect, it } from 'vitest';
import type { Engine, GenerateRequest } from '../../src/engine/engine';
import { createLocalEngine } from '../../src/engine/local-engine';
import { createMemoryStore } from '../../src/store/memory-store';
import type { ModelStore, StoreKind } from '../../src/store/model-store';
import { goldenModels } from '../golden';
import { openAnyStore } from '../opfs/remote-store';
import { generate, loadModel } from './engine-session';
import { sharedGpu } from './shared-gpu';

const NAME = 'e16k4-q4_0';
const prompt = goldenModels.find(({ name }) => name === NAME)?.prompts[0]?.tokenIds ?? [];
const request: GenerateRequest = {
  tokenIds: prompt,
  maxTokens: 40,
  ignoreEos: true,
  draft: { kind: 'off' },
  // Whatever follows measured times is fixed: a quick machine saves a round trip where a busy one does not.
  tokensPerSubmit: 1,
  paging: { runAhead: false, segmentLayers: 99 },
};

let engine: Engine | undefined;
let visited: { readonly kind: StoreKind; readonly modelId: string } | undefined;
afterEach(async () => {
  await engine?.unload();
  if (visited) await engine?.removeModel(visited.kind, visited.modelId);
  visited = undefined;
});

/** A page that is opened anew: a new engine on the same store. */
async function visit(kind: StoreKind, store?: ModelStore) {
  await engine?.unload();
  engine = createLocalEngine({ gpu: sharedGpu, openStore: store ? async () => store : openAnyStore });
  const { modelId, installed } = await loadModel(engine, NAME, { store: kind, expertBudget: { percent: 50 } });
  visited = { kind, modelId };
  const { result } = await generate(engine, request);
  return { modelId, installed, tokenIds: result.tokenIds, stats: result.stats };
}

it.each(['memory', 'indexeddb', 'opfs'] as const)(
  'a second visit to the %s store needs fewer round trips',
  async (kind) => {
    const store = kind === 'memory' ? createMemoryStore() : undefined;
    const cold = await visit(kind, store);
    expect(cold.installed).toBe(true);
    const opened = store ?? (await openAnyStore(kind));
    expect(await opened.readState(cold.modelId, 'predictor-ensemble')).toMatchObject({
      predictor: 'ensemble',
      members: { token: expect.anything(), affinity: expect.anything(), recency: expect.anything() },
    });

    const warm = await visit(kind, store);
    expect(warm.installed).toBe(false);
    expect(warm.tokenIds).toEqual(cold.tokenIds);
    expect(warm.stats.faultingLayers).toBeLessThan(cold.stats.faultingLayers);
    expect(warm.stats.roundTrips).toBeLessThan(cold.stats.roundTrips);
  },
);

it('a state that was changed gives a warning, a cold start and the same tokens', async () => {
  const store = createMemoryStore();
  const { modelId, tokenIds } = await visit('memory', store);
  await store.writeState(modelId, 'predictor-ensemble', { predictor: 'ensemble', version: 1 });
  await engine?.unload();
  engine = createLocalEngine({ gpu: sharedGpu, openStore: async () => store });
  await loadModel(engine, NAME, { expertBudget: { percent: 50 } });
  const warnings: string[] = [];
  let answered: readonly number[] = [];
  for await (const event of engine.generate(request)) {
    if (event.type === 'warning') warnings.push(event.message);
    if (event.type === 'done') answered = event.result.tokenIds;
  }
  expect(warnings).toEqual([expect.stringMatching(/ensemble had learnt is lost, it starts anew/)]);
  expect(answered).toEqual(tokenIds);
});
