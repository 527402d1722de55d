/** Settings of the kernels that only move work: no bit of any answer follows them, whoever chose them. */
import { afterEach, describe, expect, it } from 'vitest';
import type { Engine, KernelOptions } from '../../src/engine/engine';
import { generate, openSession, toBits } from './engine-session';

const engines: Engine[] = [];
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.unload();
});

/** Long enough for tiles. */
const PROMPT = Array.from({ length: 37 }, (_, i) => 3 + ((i * i + 7 * i) % 45));

/** Half of the experts: a setting must not show in a paged answer either. */
async function open(kernels: KernelOptions) {
  const { engine, loaded } = await openSession('e16k4-q4_0', { kernels, expertBudget: { percent: 50 } });
  engines.push(engine);
  const answer = async () => {
    const { result } = await generate(engine, {
      tokenIds: PROMPT,
      maxTokens: 6,
      ignoreEos: true,
      topLogprobs: 4,
      reusePrefix: false,
    });
    expect(result.stats.faultingLayers).toBeGreaterThan(0);
    return toBits(result.logprobs);
  };
  return { engine, loaded, answer };
}

describe('settings that are forced', () => {
  it('give the same bits, and are named', async () => {
    const plain = await open({});
    const forced = await open({ tuning: { rowTiles: 3, expertTiles: 1, matmulLanes: 12, expertLanes: 20 } });
    expect(plain.loaded.variants.tuning).toBe('rowTiles 8, expertTiles 8, matmulLanes 4, expertLanes 4');
    expect(forced.loaded.variants.tuning).toBe('rowTiles 3, expertTiles 1, matmulLanes 12, expertLanes 20');
    expect(await forced.answer()).toEqual(await plain.answer());
  });
});
