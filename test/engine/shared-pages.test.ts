/**
 * Layers that share pages: what is brought in ahead for one may take no slot of another that is about to go on, and what one
 * layer evicts is gone for all. Ids and log-probabilities are those of a run where everything is resident.
 */
import { afterEach, expect, it } from 'vitest';
import type { Engine } from '../../src/engine/engine';
import { loadResearch } from '../golden/research';
import { generate, openSession, toBits } from './engine-session';

const engines: Engine[] = [];
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.unload();
});

it.each([
  ['rexmoe', 2],
  ['coe', 1],
] as const)('%s answers the same at any budget, with pages brought in ahead behind its faults', async (name, index) => {
  const golden = (await loadResearch(name))[index];
  const { folder = new Map(), prompts = [] } = golden ?? {};
  const { engine, loaded } = await openSession(folder);
  engines.push(engine);
  const request = {
    tokenIds: prompts.at(-1)?.tokenIds.slice(0, 20) ?? [],
    maxTokens: 24,
    ignoreEos: true,
    topLogprobs: 2,
    draft: { kind: 'off' },
  } as const;
  const right = await generate(engine, request);
  expect(right.result.stats.faultingLayers).toBe(0);
  const { experts, expertsPerToken, layers } = loaded;
  let aheadBytes = 0;
  for (const slots of [expertsPerToken, expertsPerToken + 2]) {
    await engine.setExpertBudget({ percent: (100 * slots) / experts });
    for (const predictor of ['none', 'ensemble'] as const) {
      const paging = { predictor, runAhead: true, segmentLayers: layers };
      const { result } = await generate(engine, { ...request, paging });
      const note = `${slots} slots, ${predictor}`;
      expect(result.tokenIds, note).toEqual(right.result.tokenIds);
      expect(toBits(result.logprobs), note).toEqual(toBits(right.result.logprobs));
      expect(result.stats.faultingLayers, note).toBeGreaterThan(0);
      const { useful, wasted } = result.stats.uploadBytes;
      aheadBytes += useful + wasted;
    }
  }
  expect(aheadBytes).toBeGreaterThan(0);
});
