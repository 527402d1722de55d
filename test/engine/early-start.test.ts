/**
 * A model that is not downloaded yet answers as the installed one does, bit for bit: prompts that run as decode does, and
 * those in tiles, whose experts are streamed layer by layer, in waves where the slots are fewer.
 */
import { afterEach, expect, it } from 'vitest';
import type { Engine, GenerateRequest } from '../../src/engine/engine';
import { createLocalEngine } from '../../src/engine/local-engine';
import { listModels } from '../../src/store/list-models';
import { createMemoryStore } from '../../src/store/memory-store';
import { readGoldenModel } from '../golden';
import { generate, toBits } from './engine-session';
import { sharedGpu } from './shared-gpu';

const NAME = 'e16k4-bf16';

let engine: Engine | undefined;
afterEach(async () => {
  await engine?.unload();
  engine = undefined;
});

/** A server of one file, with ranges; `bytes` of it were sent. */
function serve(file: Uint8Array<ArrayBuffer>) {
  const log = { bytes: 0 };
  const fetch: typeof globalThis.fetch = async (_url, init) => {
    const range = new Headers(init?.headers).get('Range');
    if (range === null) return new Response(null, { status: 404 });
    const [start = 0, last = 0] = range.replace('bytes=', '').split('-').map(Number);
    const end = Math.min(last, file.byteLength - 1);
    log.bytes += end - start + 1;
    const headers = { 'Content-Range': `bytes ${start}-${end}/${file.byteLength}`, ETag: '"first"' };
    return new Response(file.slice(start, end + 1), { status: 206, headers });
  };
  return { fetch, log };
}

it.each([
  [12, 100],
  [17, 100],
  [40, 50],
  [90, 25],
])('a prompt of %i tokens with slots for %i percent of the experts', async (promptTokens, percent) => {
  const file = await readGoldenModel(NAME);
  const { fetch, log } = serve(file);
  const store = createMemoryStore();
  engine = createLocalEngine({ gpu: sharedGpu, fetch, openStore: async () => store });
  const source = { kind: 'url', url: 'https://models.example/tiny.gguf' } as const;
  const load = (startEarly: boolean) =>
    engine?.load(source, { store: 'memory', startEarly, expertBudget: { percent } });
  const tokenIds = Array.from({ length: promptTokens }, (_, i) => 3 + ((i * 79) % 200));
  const request: GenerateRequest = { tokenIds, maxTokens: 6, ignoreEos: true, topLogprobs: 5 };

  expect(await load(true)).toMatchObject({ isLocal: false });
  expect(log.bytes).toBeLessThan(file.byteLength * 0.6);
  const [model] = await listModels(store);
  expect(model?.storedShare).toBeGreaterThan(0);
  expect(model?.storedShare).toBeLessThan(0.5);
  const early = (await generate(engine, request)).result;
  expect(early.stats.tiers.source.pages).toBeGreaterThan(0);

  expect(await load(false)).toMatchObject({ isLocal: true });
  const installed = (await generate(engine, request)).result;
  expect(installed.stats.tiers.source.pages).toBe(0);
  expect(early.tokenIds).toEqual(installed.tokenIds);
  expect(toBits(early.logprobs)).toEqual(toBits(installed.logprobs));
});
